"""The example of docs/rewards.md runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rewards.md"


def test_example_prints_eight_predictions(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.search(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert example is not None
    shutil.copytree(trained_folder, tmp_path / "demo-memory")
    monkeypatch.chdir(tmp_path)
    exec(example[1], {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in lines] == [["predicted", "False"]] * 8
