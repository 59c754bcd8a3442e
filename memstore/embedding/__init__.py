"""Sentence embeddings: the embedder protocol, its fingerprint, the MiniLM loader, and an on-disk vector cache.

protocol.py     `Embedder` and `Fingerprint`
minilm.py       load a sentence-transformers model
model_files.py  find the model's files
precision.py    choose the dtype for this machine
encoder.py      run the transformer with batch-invariant results
windows.py      split token sequences into windows and batches
workers.py      single-core worker threads
cache.py        vectors keyed by content hash; blocks.py is its file format
cached.py       embed through the cache
"""
