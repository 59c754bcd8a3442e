"""Recognize the format of a file by its first bytes; refuse those that are not read, with a conversion."""

from __future__ import annotations

import codecs
import re

from memstore.errors import InputError

SNIFFED_BYTES = 4096
"""Bytes at the start of a file that decide its format."""
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x05\x06", "an empty zip archive", "name a file of rollouts"),
    (b"\xfd7zXZ\x00", "compressed with xz", "decompress it first: `xz -dk FILE`"),
    (b"BZh", "compressed with bzip2", "decompress it first: `bunzip2 -k FILE`"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "decompress it first: `lz4 -d FILE`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the files in it"),
    (b"FEA1", "a Feather file of version 1", "write it again: `pyarrow.feather.write_feather`"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table as JSON, one object a line"),
    (b"ORC", "an ORC file", "convert it to Parquet first: `pyarrow.orc.read_table`"),
    (b"Obj\x01", "an Avro file", "convert it to JSON first, one object a line"),
    (b"\x89HDF", "an HDF5 file", "convert it to Parquet first: `pandas.read_hdf`"),
    (b"%PDF-", "a PDF", "name a file of rollouts"),
    (b"<!DOCTYPE", "a web page", "download the file again, with a login if it needs one"),
    (b"<html", "a web page", "download the file again, with a login if it needs one"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file that it stands for: `git lfs pull`"),
)  # fmt: skip
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95\x8a}\](c\x8c]")
"""The start of a pickle of the protocols 2 to 5, also of one that `torch.save` wrote before version 1.6."""
PICKLE_ADVICE = (
    "reading one runs the code in it; where you trust it, convert it with examples/pickle_to_jsonl.py of memstore's "
    "source: `python pickle_to_jsonl.py FILE NEW.jsonl`"
)
_WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
_SECOND = re.compile(rb"(?:[\t\n\r -~]\0)+\Z"), re.compile(rb"(?:\0[\t\n\r -~])+\Z")
"""ASCII in UTF-16, the low byte first and the high byte first."""
_SEEN_CHARACTERS = 8
_INSIDE: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file"), (b"ARROW1", "an Arrow file"), (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "compressed with gzip"), (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
)  # fmt: skip
"""Formats that are read from a file of their own, and not out of a compressed file, an archive or a pipe."""
_TAR = (257, b"ustar")
_ARRAY = re.compile(rb"\[\s*(?:\{|\]?\s*\Z)")
_PRETTY_OBJECT = re.compile(rb"\{[ \t\r]*\n\s*\"")
_YAML_LIST = re.compile(rb"(?:---[ \t]*\r?\n)?- (?:\{|\w+:\s)")
"""The start of a list of objects in YAML."""
_SEPARATORS = (b",", b"\t", b";")
_TABLE_NAME = re.compile(r"\.(?:csv|tsv)(?:\.gz|\.zst)?\Z", re.IGNORECASE)
_COLUMNS = frozenset(
    ["query", "prompt", "question", "problem", "input", "messages", "response", "completion", "answer", "output",
     "gold", "reward"]
)  # fmt: skip


def refuse_other_format(start: bytes, name: str) -> None:
    """Check that a file may hold text: JSON lines, JSON, YAML, CSV or TSV.

    Args:
        start: the first `SNIFFED_BYTES` of the file, or all of a shorter one.

    Raises:
        InputError: the file has another format; the message describes how to convert it.
    """
    if _PICKLE.match(start):
        raise InputError(f"{name} is a Python pickle, which is not read: {PICKLE_ADVICE}")
    found = _binary_format(start) or _encoding(start)
    if found is not None:
        kind, advice = found
        raise InputError(f"{name} is {kind}, which is not read; {advice}")


def refuse_packed_format(start: bytes, name: str) -> None:
    """Check that what was decompressed, or came through a pipe, is no file that must be read by itself.

    Raises:
        InputError: it is one.
    """
    for magic, kind in _INSIDE:
        if start.startswith(magic):
            raise InputError(
                f"what {name} contains is {kind}, which is not read from a compressed file or a pipe; decompress or "
                "write it to a file of its own"
            )


def text_format(start: bytes, name: str = "") -> str:
    """The format of a text by its start: "lines" of JSON, other "json", "yaml", or the separator of a table.

    Args:
        name: name of the file; one of a table may have any header.
    """
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if _ARRAY.match(text) or _PRETTY_OBJECT.match(text):
        return "json"
    if _YAML_LIST.match(text):
        return "yaml"
    header = text.partition(b"\n")[0].strip()
    if header[:1] in (b"{", b"["):
        return "lines"
    for separator in _SEPARATORS:
        names = {name.strip(b" \"'").decode("utf-8", "replace").lower() for name in header.split(separator)}
        if len(names) > 1 and not names.isdisjoint(_COLUMNS):
            return separator.decode()
    if _TABLE_NAME.search(name):
        return max(_SEPARATORS, key=header.count).decode()
    return "lines"


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
            return _wide(encoding)
    low, high = (pattern.match(start[: 2 * _SEEN_CHARACTERS]) for pattern in _SECOND)
    return _wide("UTF-16LE") if low else _wide("UTF-16BE") if high else None


def _wide(encoding: str) -> tuple[str, str]:
    return f"encoded in {encoding}", f"convert it first: `iconv -f {encoding} -t UTF-8 FILE > NEW`"
