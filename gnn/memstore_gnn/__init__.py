"""The reward model over a snapshot: loader, features, predictors, training, calibration."""
