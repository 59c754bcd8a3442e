"""Baseline predictors, one a file, that implement `memstore_gnn.data.predictor.Predictor`."""
