"""Reward model over a memory snapshot: data, features, models, training, scoring and evaluation."""
