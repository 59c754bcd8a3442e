"""Training: fit a reward model to labels."""
