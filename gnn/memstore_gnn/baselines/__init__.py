"""Ways to predict a reward, one a file, all behind `memstore_gnn.data.predictor.Predictor`."""
