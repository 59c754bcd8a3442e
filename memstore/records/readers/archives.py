"""Zip archives: their members are named `ARCHIVE/MEMBER`, as if the archive were a folder.

Nothing is written to the disk. Archives in archives are not opened. The size of a member is what the archive's list
gives for it, which reading enforces, and it is bounded by the member's compressed size.

Logs of Inspect (`.eval`) are zip archives too, with one JSON document a sample (`eval_log`).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from memstore.errors import InputError
from memstore.records.readers.other_formats import PICKLE_ADVICE

ZIP_MAGIC = b"PK\x03\x04"
MAX_MEMBERS = 100_000
"""Most members of an archive."""
MAX_RATIO = 200
"""Highest accepted ratio of a member's size to its compressed size; rollouts have 3 to 40, deflate reaches 1,032."""
FREE_BYTES = 16 * 2**20
"""Size of a member up to which the ratio is not checked."""
_ZSTD = 93
"""The compression method of a zip archive that Inspect uses and `zipfile` of Python 3.13 does not know."""
_LOCAL_HEADER = 30
"""Bytes of a member's local header before its name."""
_ENCRYPTED = 0x1
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
"""What reading a damaged member raises."""


def is_archive(path: Path) -> bool:
    """Whether a path is a zip archive by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into; None if it leads into none."""
    return next((parent for parent in path.parents if parent.is_file() and is_archive(parent)), None)


class Archive:
    """A zip archive that is read.

    Raises:
        InputError: it is damaged or no archive of rollouts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{path} is not a readable zip archive: {error}; copy or write it again") from error
        if len(self._members) > MAX_MEMBERS:
            raise InputError(
                f"{path} has {len(self._members):,} files, but at most {MAX_MEMBERS:,} are read; unpack it"
            )
        if any(name == "data.pkl" or name.endswith("/data.pkl") for name in self._members):
            raise InputError(f"{path} was written by torch.save, which pickles, and is not read: {PICKLE_ADVICE}")

    @property
    def names(self) -> list[str]:
        """The names of the members, without hidden ones."""
        hidden = (".", "__MACOSX")
        return [name for name in self._members if not any(part.startswith(hidden) for part in name.split("/"))]

    @property
    def is_eval_log(self) -> bool:
        """Whether this is a log of Inspect."""
        return "_journal/start.json" in self._members or "header.json" in self._members

    def size(self, name: str) -> int:
        """Size of a member in bytes.

        Raises:
            InputError: there is no such member, it is encrypted, or it expands too much.
        """
        member = self._members.get(name)
        if member is None:
            raise InputError(f"{self.path} has no file {name!r}; it has {', '.join(self.names[:20]) or 'none'}")
        if member.flag_bits & _ENCRYPTED:
            raise InputError(f"{self.path}/{name} is encrypted; unpack the archive first")
        if member.file_size > FREE_BYTES + MAX_RATIO * member.compress_size:
            raise InputError(
                f"{self.path}/{name} expands more than {MAX_RATIO}-fold, which rollouts do not; if it is right, unpack "
                "the archive first"
            )
        return member.file_size

    def open(self, name: str) -> BinaryIO:
        """Open a member for reading from its start to its end.

        Raises:
            InputError: it cannot be opened; see `size`.
        """
        size, member = self.size(name), self._members[name]
        try:
            if member.compress_type == _ZSTD:
                return cast("BinaryIO", _Bounded(self._from_zstd(member), size))
            with zipfile.ZipFile(self.path) as archive:
                return cast("BinaryIO", archive.open(name))  # keeps the file open
        except (OSError, zipfile.BadZipFile, NotImplementedError, pa.ArrowException) as error:
            raise InputError(f"{self.path}/{name} cannot be read: {error}; unpack the archive first") from error

    def read(self, name: str, size: int = -1) -> bytes:
        """The content of a member, or its first bytes.

        Raises:
            InputError: it cannot be read or is damaged; see `size`.
        """
        try:
            with self.open(name) as file:
                return file.read(size)
        except (OSError, *DAMAGED) as error:
            raise InputError(f"{self.path}/{name} is damaged ({error}); copy or write the archive again") from error

    def _from_zstd(self, member: zipfile.ZipInfo) -> pa.CompressedInputStream:
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)
            return pa.CompressedInputStream(pa.BufferReader(file.read(member.compress_size)), "zstd")


class _Bounded(io.RawIOBase):
    """A stream that may not be longer than the archive's list says."""

    def __init__(self, stream: pa.CompressedInputStream, size: int) -> None:
        self._stream = stream
        self._left = size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer; see `io.RawIOBase`."""
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise OSError("it is longer than the archive says")
        buffer[: len(data)] = data
        return len(data)
