"""Readers of rollout files. Each yields `memstore.records.record.Row`s.

expand.py         folders, glob patterns and archives to files
run_folders.py    files of a run that repeat or describe rollouts
open.py           choose the reader of a path by its content
source.py         `RowSource`, the protocol of a reader
lines.py          texts: JSON lines, from a file, compressed, or from standard input
json_values.py    other JSON: an array, or objects over several lines
yaml_items.py     lists in YAML, item by item
csv_rows.py       CSV and TSV
blocks.py         blocks of bytes, decompressed, with truncation reported
parquet.py        Parquet, in batches
arrow.py          Arrow files and streams
tables.py         what the readers of tables share
archives.py       zip archives
eval_log.py       logs of Inspect
natural_order.py  names with numbers in order
other_formats.py  formats by their first bytes; files that are refused, with a conversion
"""

from memstore.records.readers.expand import expand_paths, skipped_files
from memstore.records.readers.open import open_source
from memstore.records.readers.source import RowSource

__all__ = ["RowSource", "expand_paths", "open_source", "skipped_files"]
