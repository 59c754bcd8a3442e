"""Programs: a deterministic, bounded interpreter of a subset of Python, and the outcomes of calls."""
