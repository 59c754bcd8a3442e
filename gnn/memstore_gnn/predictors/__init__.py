"""Ways to predict a reward, one a file, all behind `memstore_gnn.predictors.protocol.Predictor`."""
