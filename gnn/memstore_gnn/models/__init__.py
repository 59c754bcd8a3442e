"""Reward model: a calibrated logistic regression, corrected by a heterogeneous attention network."""
