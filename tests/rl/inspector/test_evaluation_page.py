"""The page of evaluations, over a memory with a trained model, and the charts as files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from memstore.memory import Memory
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.embedder import HashEmbedder
from memstore_gnn.evaluation.compare import evaluate_memory
from memstore_gnn.evaluation.curves import CurveCollector, Curves
from memstore_gnn.evaluation.kept import FILE, keep_comparison, keep_situations, place_of
from memstore_gnn.evaluation.situations import SituationRow
from memstore_gnn.models.registry import model_folder
from memstore_rl.inspector.evaluation_charts import FILES, write_charts
from memstore_rl.inspector.source import MemorySource, SnapshotSource
from memstore_rl.inspector.views.evaluation import evaluation_page
from memstore_rl.inspector.views.missing import NotThere
from tests.rl.service.training_services import trained_sums

from .conftest import serving

SITUATION = SituationRow("unseen", "<b>kNN</b>", 0, 3, 12, 0.7, 0.5, 0.1, float("nan"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A memory of sums with a model, not evaluated."""
    folder = trained_sums(tmp_path_factory.mktemp("evaluated"))
    with Memory.open(folder, embedder=HashEmbedder()) as memory:
        yield memory


def evaluated(memory: Memory) -> Curves:
    """Compare two predictors at two budgets, and keep what comes of it."""
    collector = CurveCollector([0.2, 0.5])
    names = ["vote_share", "constant"]
    rows = evaluate_memory(memory, predictors=names, budgets=[0.2, 0.5], seeds=[0, 1], keep=collector.add)
    path = place_of(memory)
    assert isinstance(path, Path)
    keep_comparison(path, rows, collector.curves())
    keep_situations(path, [SITUATION])
    return collector.curves()


@pytest.fixture
def kept(trained: Memory) -> Iterator[Curves]:
    """The memory is evaluated."""
    yield evaluated(trained)
    (model_folder(trained) / FILE).unlink()


def test_a_model_that_is_not_evaluated(trained: Memory) -> None:
    page = evaluation_page(MemorySource(trained))
    assert (page.comparison, page.situations, page.problem) == (None, None, None)
    with serving(MemorySource(trained)) as address:
        text = httpx.get(f"{address}/evaluation").text
    assert f"Not evaluated yet; with labels in the memory, run: <code>{page.command}" in text
    assert "auc" in text  # the figures of the training


def test_curves_tables_and_situations(trained: Memory, kept: Curves) -> None:
    page = evaluation_page(MemorySource(trained))
    assert page.datasets == ("sums",)
    assert [(line.predictor, line.budget, line.seeds) for line in page.lines if line.predictor == "vote_share"] == [
        ("vote_share", 0.2, 2),
        ("vote_share", 0.5, 2),
    ]
    drawn = kept.budgets["sums"]["vote_share"]["auc"][0]
    assert page.lines[2].figures[0] == (drawn.mean, drawn.error)
    with serving(MemorySource(trained)) as address, httpx.Client(base_url=address) as web:
        text = web.get("/evaluation").text
        assert text.count('class="chart"') == 4
        assert "&lt;b&gt;kNN" in text
        assert "Not evaluated" not in text
        other = web.get("/evaluation", params={"model": page.models[0].id, "dataset": "sums"})
        assert other.status_code == 200
        for wrong in ({"dataset": "<b>"}, {"model": "m-1"}, {"number": "7"}, {"number": "x"}):
            answer = web.get("/evaluation", params=wrong)
            assert answer.status_code == (400 if wrong == {"number": "x"} else 404)
            assert answer.text.count('role="alert"') == 1


def test_a_snapshot_has_what_was_evaluated(trained: Memory, kept: Curves, tmp_path: Path) -> None:
    save_snapshot(trained.snapshot(), tmp_path / "snapshot", trained.models_folder)
    source = SnapshotSource(load_snapshot(tmp_path / "snapshot"), "a snapshot", tmp_path / "snapshot")
    page = evaluation_page(source)
    assert page.comparison is not None
    assert page.problem is None
    assert evaluation_page(SnapshotSource(trained.snapshot(), "in memory")).problem is not None


@pytest.mark.parametrize("content", ["{", '{"format": "memstore-evaluation", "version": 99}'])
def test_a_file_that_cannot_be_read(trained: Memory, content: str) -> None:
    path = model_folder(trained) / FILE
    path.write_text(content, encoding="utf-8")
    with serving(MemorySource(trained)) as address:
        answer = httpx.get(f"{address}/evaluation")
    path.unlink()
    assert answer.status_code == 200
    assert answer.text.count('role="alert"') == 1
    assert FILE in answer.text


def test_a_model_of_an_older_version(trained: Memory, kept: Curves) -> None:
    description = model_folder(trained) / "model.json"
    before = description.read_bytes()
    description.write_text(json.dumps(json.loads(before) | {"version": 1}), encoding="utf-8")
    page = evaluation_page(MemorySource(trained))
    description.write_bytes(before)
    assert page.problem is not None
    assert page.comparison is not None


def test_memories_without_a_model_or_its_files(looked_at: Memory, tmp_path: Path) -> None:
    page = evaluation_page(MemorySource(looked_at))
    assert "are not on this machine" in str(page.problem)
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        source = MemorySource(memory)
        assert "there is no reward model yet" in str(evaluation_page(source).problem)
        with serving(source) as address:
            assert "There is no reward model yet" in httpx.get(f"{address}/evaluation").text
        with pytest.raises(NotThere):
            evaluation_page(source, "m-1")


def test_charts_are_written_as_files(trained: Memory, kept: Curves, tmp_path: Path) -> None:
    hostile = kept._replace(calibration={"<b>&": kept.calibration["sums"]})
    paths = write_charts(hostile, tmp_path / "plots")
    assert tuple(path.name for path in paths) == FILES
    drawn = [xml.parse(path).getroot() for path in paths[:3]]
    assert [len(root.findall("{*}svg")) for root in drawn] == [2, 1, 1]
    assert "<b>&: calibration" in [one.text for one in drawn[1].iter("{http://www.w3.org/2000/svg}text")]
    assert json.loads(paths[3].read_text(encoding="utf-8"))["budget"] == 0.2
