"""Readers of rollout files. Each yields `memstore.records.record.Row`s.

expand.py   folders and glob patterns to files
open.py     choose the reader of a path by its content
source.py   `RowSource`, the protocol of a reader
lines.py    JSON lines, from a file, its gzip or standard input
other_formats.py  files of other formats, refused with a conversion
blocks.py   blocks of bytes, decompressed, with truncation reported
parquet.py  Parquet, in batches
"""

from memstore.records.readers.expand import expand_paths, skipped_files
from memstore.records.readers.open import open_source
from memstore.records.readers.source import RowSource

__all__ = ["RowSource", "expand_paths", "open_source", "skipped_files"]
