"""Data: what a reward model reads from a snapshot."""
