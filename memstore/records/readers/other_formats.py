"""Recognize files of other formats by their first bytes, and describe how to convert them to JSON lines."""

from __future__ import annotations

import codecs
import re

from memstore.errors import InputError

SNIFFED_BYTES = 4096
"""Bytes at the start of a file that decide its format."""
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", "unpack it with `unzip`, and name the files in it; export an Inspect log with "
     "`inspect log convert --to json`"),
    (b"PK\x05\x06", "an empty zip archive", "name a file of rollouts"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it first: `zstd -d FILE`"),
    (b"\xfd7zXZ\x00", "compressed with xz", "decompress it first: `xz -dk FILE`"),
    (b"BZh", "compressed with bzip2", "decompress it first: `bunzip2 -k FILE`"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "decompress it first: `lz4 -d FILE`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the files in it"),
    (b"ARROW1", "an Arrow file", "convert it first: `python -c \"import pyarrow as pa, pyarrow.parquet as pq; "
     "pq.write_table(pa.ipc.open_file('FILE').read_all(), 'NEW.parquet')\"`"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "convert it first: `python -c \"import pyarrow as pa, pyarrow.parquet as "
     "pq; pq.write_table(pa.ipc.open_stream('FILE').read_all(), 'NEW.parquet')\"`"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table as JSON, one object a line"),
    (b"ORC", "an ORC file", "convert it to Parquet first: `pyarrow.orc.read_table`"),
    (b"Obj\x01", "an Avro file", "convert it to JSON first, one object a line"),
    (b"\x89HDF", "an HDF5 file", "convert it to Parquet first: `pandas.read_hdf`"),
    (b"\x80\x04\x95", "a Python pickle", "write its rows as JSON, one object a line"),
    (b"\x80\x05\x95", "a Python pickle", "write its rows as JSON, one object a line"),
    (b"%PDF-", "a PDF", "name a file of rollouts"),
)  # fmt: skip
_WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"), (b"{\0", "UTF-16LE"), (b"\0{", "UTF-16BE"), (b"[\0", "UTF-16LE"),
)  # fmt: skip
_TAR = (257, b"ustar")
_ARRAY = re.compile(rb"\[\s*(?:\{|\]?\s*\Z)")
_PRETTY_OBJECT = re.compile(rb"\{[ \t\r]*\n\s*\"")
_COLUMNS = frozenset(
    ["query", "prompt", "question", "problem", "input", "messages", "response", "completion", "answer", "output",
     "gold", "reward"]
)  # fmt: skip
_CONVERT_JSON = (
    "python -c \"import json; rows = json.load(open('FILE')); print(*map(json.dumps, rows), sep=chr(10))\" > NEW.jsonl"
)


def refuse_other_format(start: bytes, name: str) -> None:
    """Check that a file may hold JSON lines.

    Args:
        start: the first `SNIFFED_BYTES` of the file, or all of a shorter one.

    Raises:
        InputError: the file has another format; the message describes how to convert it.
    """
    found = _binary_format(start) or _encoding(start) or _json_document(start) or _table(start)
    if found is not None:
        kind, advice = found
        raise InputError(f"{name} is {kind}, but rollouts are read from JSON lines and Parquet; {advice}")


def _binary_format(start: bytes) -> tuple[str, str] | None:
    for magic, kind, advice in _MAGIC:
        if start.startswith(magic):
            return kind, advice
    offset, magic = _TAR
    if start[offset : offset + len(magic)] == magic:
        return "a tar archive", "unpack it with `tar -xf FILE`, and name the files in it"
    return None


def _encoding(start: bytes) -> tuple[str, str] | None:
    for mark, encoding in _WIDE:
        if start.startswith(mark):
            return f"encoded in {encoding}", f"convert it first: `iconv -f {encoding} -t UTF-8 FILE > NEW`"
    return None


def _json_document(start: bytes) -> tuple[str, str] | None:
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if _ARRAY.match(text):
        return "a JSON array", f"write one object a line: `{_CONVERT_JSON}`"
    if _PRETTY_OBJECT.match(text):
        return (
            "one JSON object over several lines",
            "write one object a line; of a log with `samples` (Inspect), convert these: rows = [{'query': "
            "sample['input'], 'response': sample['output']['choices'][0]['message']['content'], 'gold': "
            "sample['target']} for sample in log['samples']]",
        )
    return None


def _table(start: bytes) -> tuple[str, str] | None:
    header = start.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0].strip()
    if header[:1] in (b"{", b"["):
        return None
    for separator, kind in ((b",", "CSV"), (b"\t", "TSV"), (b";", "CSV")):
        names = {name.strip(b" \"'").decode("utf-8", "replace").lower() for name in header.split(separator)}
        if len(names) > 1 and not names.isdisjoint(_COLUMNS):
            option = f", sep={separator.decode()!r}" if separator != b"," else ""
            return kind, (
                f"convert it first: `python -c \"import pandas; pandas.read_csv('FILE'{option})"
                ".to_json('NEW.jsonl', orient='records', lines=True)\"`"
            )
    return None
