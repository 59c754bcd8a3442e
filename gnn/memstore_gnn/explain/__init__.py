"""Explain a score: what each node of the memory contributes to it, by removing items and scoring again."""
