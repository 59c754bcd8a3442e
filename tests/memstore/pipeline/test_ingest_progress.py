"""Progress of an ingest of several files: every stage ends at 100 % and never exceeds it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_cli.progress import Bars

SIZES = [
    pytest.param([("a", 4), ("b", 4)], id="same name, same size, same number of texts"),
    pytest.param([("a", 4), ("b", 7), ("c", 2)], id="same name, other sizes"),
    pytest.param([("a", 5)], id="one file"),
]


class Watched(Bars):
    """Bars that record the highest share of each stage."""

    def __init__(self, bars: RichProgress) -> None:
        super().__init__(bars)
        self.bars = bars
        self.highest = 0.0

    def advance(self, done: int) -> None:
        super().advance(done)
        self.highest = max([self.highest, *(task.completed / task.total for task in self.bars.tasks if task.total)])


@pytest.mark.parametrize("files", SIZES)
def test_stages_end_at_100_percent(files: list[tuple[str, int]], tmp_path: Path) -> None:
    paths = []
    for folder, rows in files:
        paths.append(tmp_path / folder / "0.jsonl")
        paths[-1].parent.mkdir()
        lines = [{"query": f"{folder}{row}?", "answer": "1", "thinking": f"{folder} {row}"} for row in range(rows)]
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    bars = Watched(RichProgress(console=Console(file=io.StringIO())))
    settings = Settings(link_floor=-1.0)
    with Memory.open(tmp_path / "m", create=True, embedder=HashEmbedder(), settings=settings) as memory:
        memory.ingest(paths, IngestOptions(block_rows=2), progress=bars)
    shares = {task.description: task.completed / task.total for task in bars.bars.tasks if task.total}
    assert sum(name.startswith("ingest 0.jsonl") for name in shares) == len(files)
    assert shares == dict.fromkeys(shares, 1.0)
    assert bars.highest == 1.0


def test_a_folder_is_ingested(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        (tmp_path / f"{step}.jsonl").write_text(json.dumps({"query": f"{step}?", "answer": "1"}) + "\n")
    with Memory.open(tmp_path / "m", create=True, embedder=HashEmbedder(), settings=Settings()) as memory:
        assert memory.ingest([str(tmp_path / "*.jsonl")]).added == 3
        assert memory.ingest([tmp_path]).unchanged == 3
