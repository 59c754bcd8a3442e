"""Doubles for tests and benchmarks of rewards and rollouts: see each module."""
