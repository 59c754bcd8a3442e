"""An output file is checked before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore_gnn.scoring.output_file import check_output


def test_what_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").write_text("")
    check_output(None, "scores")
    check_output(tmp_path / "new.jsonl", "scores")
    check_output(tmp_path / "known.jsonl", "scores")


def test_what_cannot(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a regular file; name a file for the scores"):
        check_output(tmp_path / "pipe", "scores")
    with pytest.raises(InputError, match="is a folder; name a file for the scores"):
        check_output(tmp_path, "scores")
    with pytest.raises(InputError, match="does not exist; create it first"):
        check_output(tmp_path / "none" / "new", "scores")
