"""Reward hooks for training frameworks.

trl.py   a reward function for TRL's `GRPOTrainer`
verl/    training data, reward hooks, configuration and checks for verl
"""
