"""Evaluation: measure and compare predictors on hidden labels."""
