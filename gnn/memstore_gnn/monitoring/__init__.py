"""Monitoring: detect drift between training data and new rollouts."""
