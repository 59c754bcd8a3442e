"""Rewards: one reward for each rollout of a group."""
