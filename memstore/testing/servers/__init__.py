"""Private database servers for tests and benchmarks, and a proxy that breaks their connections."""
