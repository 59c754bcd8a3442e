"""Fit a reward model to the labels of a memory."""
