"""For those who write a backend: in-memory doubles and the conformance suites that every backend passes."""
