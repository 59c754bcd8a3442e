"""Progress bars and lines follow the stages of `memstore.progress`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from memstore_cli.progress import Bars, Lines, show_progress


def test_a_line_shows_stage_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(every=0)
    lines.stage("embed", 4000)
    lines.advance(1000)
    lines.stage("read")
    lines.advance(7)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["embed: 25%", "read: 7"]
    assert captured.out == ""


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.stage("embed", 10)
    lines.advance(10)
    assert capsys.readouterr().err == ""


def test_a_stage_continues_and_restarts_with_another_total(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(every=0)
    for name, total, done in (("file", 10, 4), ("embed", 3, 3), ("file", 10, 5), ("embed", 6, 1), ("embed", 6, 1)):
        lines.stage(name, total)
        lines.advance(done)
    shown = ["file: 40%", "embed: 100%", "file: 90%", "embed: 17%", "embed: 33%"]
    assert capsys.readouterr().err.splitlines() == shown


def test_bars_keep_one_task_per_stage() -> None:
    rich_progress = RichProgress(console=Console(file=io.StringIO()))
    bars = Bars(rich_progress)
    for name, total, done in (("file", 10, 4), ("embed", 3, 3), ("file", 10, 5), ("embed", 3, 1), ("embed", 6, 2)):
        bars.stage(name, total)
        bars.advance(done)
    assert {task.description: (task.completed, task.total) for task in rich_progress.tasks} == {
        "file": (9, 10),
        "embed": (2, 6),
    }


@pytest.mark.parametrize(("as_json", "seconds", "lines"), [(True, 59, 0), (True, 61, 1), (False, 11, 1)])
def test_json_without_a_terminal_shows_a_line_a_minute(
    as_json: bool, seconds: float, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("memstore_cli.progress.time.monotonic", lambda: now)
    with show_progress(as_json) as progress:
        progress.stage("ingest a.jsonl", 4)
        now += seconds
        progress.advance(1)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["ingest a.jsonl: 25%"] * lines
    assert captured.out == ""


def test_json_on_a_terminal_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with show_progress(as_json=True) as progress:
        assert isinstance(progress, Bars)
