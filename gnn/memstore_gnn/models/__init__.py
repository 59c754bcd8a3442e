"""Reward model: a calibrated logistic regression, and a graph network that corrects the votes of a memory."""
