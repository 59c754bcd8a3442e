"""One splitter, one answer extractor, one canonicaliser: ingest, training and scoring all import these."""
