"""In-memory stores and deterministic embedders, in place of the real ones in tests."""
