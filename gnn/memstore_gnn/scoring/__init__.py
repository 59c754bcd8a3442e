"""Predict the rewards of rollouts with a trained model."""
