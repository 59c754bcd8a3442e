"""Compare predictors on hidden labels."""
