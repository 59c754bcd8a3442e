"""Process-level helpers: retries, child processes."""
