"""Rewards for policy optimisation."""
