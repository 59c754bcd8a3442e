"""Readers of rollout files: each yields `memstore.records.record.Row`s.

source.py   what a source is, and which kind a path is, told by its content
lines.py    JSON lines: a file, its gzip, standard input
blocks.py   bytes in blocks, gzip taken off, broken ends reported
parquet.py  Parquet, a batch at a time
"""

from memstore.records.readers.open import open_source
from memstore.records.readers.source import RowSource

__all__ = ["RowSource", "open_source"]
