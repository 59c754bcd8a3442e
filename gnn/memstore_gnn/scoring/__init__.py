"""Scoring: predict the reward of rollouts."""
