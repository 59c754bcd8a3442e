"""Training files whose batches have a share of labelled rows, read by verl's own samplers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.trainers.verl.batches import Batches, BatchPlan, batches_of, in_batches
from memstore_rl.trainers.verl.check import check
from memstore_rl.trainers.verl.data import DataPlan, write_data

FILE = "train_memory_20.parquet"
"""Twelve labelled and 48 unlabelled queries."""


def queries(count: int = 60, gold: str | None = "1") -> list[SourceQuery]:
    texts = [f"what is {n} + 1 ?" for n in range(count)]
    return [SourceQuery(f"id-{n}", text, "sums", f"q{n}", "math", gold, "train") for n, text in enumerate(texts)]


def plan(share: float | None = None, size: int | None = None, seed: int = 0, budget: float = 0.2) -> DataPlan:
    return DataPlan(budgets=(budget,), modes=("memory",), batches=BatchPlan(share, size, seed))


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file)["extra_info"].to_pylist()
    return rows


def order(labelled: list[bool], batches: BatchPlan) -> tuple[list[int], Batches]:
    """The positions of the rows in batches, and the batches."""
    table = in_batches(pa.table({"row": range(len(labelled))}), labelled, batches)
    return table["row"].to_pylist(), Batches(**json.loads(table.schema.metadata[b"memstore_batches"]))


@given(
    labelled=st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda flags: len(set(flags)) == 2),
    percent=st.integers(1, 99),
    size=st.none() | st.integers(2, 24),
    seed=st.integers(0, 3),
)
def test_batches_have_the_share_and_rows_take_turns(
    labelled: list[bool], percent: int, size: int | None, seed: int
) -> None:
    share, batches = percent / 100, BatchPlan(percent / 100, size, seed)
    try:
        rows, (size, count) = order(labelled, batches)
    except InputError:
        assert size is not None
        assert int(share * size + 0.5) in (0, size)
        return
    assert abs(count - share * size) <= 0.5 if batches.size else count == pytest.approx(share * size)
    assert len(rows) % size == 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        flags = [labelled[row] for row in batch]
        assert sum(flags) == count
        assert all(abs(sum(flags[:end]) - end * count / size) < 1 for end in range(size))
        for wanted, places in ((True, count), (False, size - count)):
            part = [row for row in batch if labelled[row] is wanted]
            assert len(set(part)) == min(places, labelled.count(wanted))
    times = Counter(rows)
    assert set(times) == set(range(len(labelled)))
    for wanted in (True, False):
        of_part = [times[row] for row in times if labelled[row] is wanted]
        assert max(of_part) - min(of_part) <= 1
    assert order(labelled, batches)[0] == rows


def test_the_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write_data(queries(), tmp_path / name, plan(size=8, seed=seed))
    one, again, other = ((tmp_path / name / FILE).read_bytes() for name in ("one", "again", "other"))
    assert one == again != other
    assert sorted(row["query_id"] for row in rows_of(tmp_path / "one" / FILE) if not row["labelled"]) == sorted(
        row["query_id"] for row in rows_of(tmp_path / "other" / FILE) if not row["labelled"]
    )


def test_half_of_each_batch_is_labelled_by_default(tmp_path: Path) -> None:
    [written] = write_data(queries(), tmp_path / "data", plan())
    assert (written.rows, written.labelled, written.batch_size, written.labelled_per_batch) == (96, 48, 2, 1)
    assert batches_of(tmp_path / "data" / FILE) == (2, 1)
    assert "data.shuffle=False" in json.loads((tmp_path / "data" / "data.json").read_text())["note"]


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_file_of_one_kind_of_rows_is_left_as_it_is(budget: float, tmp_path: Path) -> None:
    [written] = write_data(queries(), tmp_path / "data", plan(budget=budget))
    assert (written.rows, written.batch_size) == (60, None)
    assert json.loads((tmp_path / "data" / "data.json").read_text())["note"] is None


@pytest.mark.parametrize(
    ("data_plan", "message"),
    [
        (plan(0.0), "the labelled share is 0; it must be above 0 and at most 1"),
        (plan(1.5), "the labelled share is 1.5; it must be"),
        (plan(size=0), "the batch size is 0; it must be 1 or more"),
        (plan(0.5, budget=0.0), "train_memory_0.parquet: no row is labelled"),
        (plan(0.5, budget=1.0), "train_memory_100.parquet: every row is labelled"),
        (plan(0.1, 4), "a labelled share of 0.1 leaves no labelled row in a batch of 4"),
        (plan(size=1), "a labelled share of 0.5 leaves no unlabelled row in a batch of 1"),
        (plan(1.0), "a labelled share of 1 leaves no unlabelled row .* or mode budget"),
        (DataPlan(modes=("budget",), batches=BatchPlan(size=8)), "are for mode memory, which is not among the modes"),
    ],
)
def test_batches_that_cannot_be_are_one_sentence(data_plan: DataPlan, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        write_data(queries(), tmp_path / "data", data_plan)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_all_rows_labelled_with_a_share_of_one(tmp_path: Path) -> None:
    [written] = write_data(queries(), tmp_path / "data", plan(1.0, 8, budget=1.0))
    assert (written.rows, written.labelled, written.labelled_per_batch) == (64, 64, 8)


def verl_batches(file: Path, config: Any, policy: Path, epochs: int) -> list[list[Any]]:
    """Return the extra information of the rows of each batch, from verl's data set, sampler and loader."""
    from torchdata.stateful_dataloader import StatefulDataLoader
    from transformers import AutoTokenizer
    from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler
    from verl.utils.dataset.rl_dataset import collate_fn

    dataset = create_rl_dataset(str(file), config.data, AutoTokenizer.from_pretrained(policy), None)
    loader = StatefulDataLoader(
        dataset=dataset,
        batch_size=config.data.train_batch_size,
        drop_last=True,
        collate_fn=collate_fn,
        sampler=create_rl_sampler(config.data, dataset),
    )
    return [list(batch["extra_info"]) for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize(("share", "size", "batch", "labelled"), [(0.5, None, 8, 4), (0.3, 10, 10, 3), (0.25, 4, 8, 2)])
def test_verl_in_order_keeps_the_share(
    share: float,
    size: int | None,
    batch: int,
    labelled: int,
    tmp_path: Path,
    tiny_policy: Path,
    verl_config: Callable[..., Any],
) -> None:
    write_data(queries(), tmp_path / "data", plan(share, size))
    config = verl_config("data.shuffle=False", f"data.train_batch_size={batch}")
    found = verl_batches(tmp_path / "data" / FILE, config, tiny_policy, epochs=2)
    assert [sum(row["labelled"] for row in rows) for rows in found] == [labelled] * len(found)
    first = [row["query_id"] for rows in found[: len(found) // 2] for row in rows]
    assert set(first) == {f"id-{n}" for n in range(60)}


def test_verl_shuffled_does_not_and_the_check_says_so(
    tmp_path: Path, tiny_policy: Path, verl_config: Callable[..., Any]
) -> None:
    write_data(queries(), tmp_path / "data", plan(size=8))
    file = tmp_path / "data" / FILE
    config = verl_config("data.shuffle=True", "data.seed=1", "data.train_batch_size=8")
    found = verl_batches(file, config, tiny_policy, epochs=1)
    assert len({sum(row["labelled"] for row in rows) for rows in found}) > 1

    def says(*overrides: str) -> tuple[bool, str]:
        given = ("+memstore.endpoint=http://127.0.0.1:8731", f"data.train_files={file}", "data.train_batch_size=16")
        [finding] = [finding for finding in check([*given, *overrides]) if finding.what == "batches"]
        return finding.ok, finding.says

    assert says("data.shuffle=False") == (True, "4 of 8 rows are labelled, if verl filters no prompt")
    mode = "trainer.v1.trainer_mode=colocate_async"
    assert says("data.shuffle=False", mode)[1].startswith(
        "4 of 8 rows are labelled on average, in an asynchronous mode"
    )
    assert says() == (
        False,
        f"data.shuffle=True mixes the batches of {file}, which have 4 labelled rows of 8; set data.shuffle=False",
    )
    ok, sentence = says("data.shuffle=False", "data.train_batch_size=12")
    assert not ok
    assert sentence.endswith("write the data with --batch-size 12")
    write_data(queries(), tmp_path / "once", DataPlan(batches=None))
    assert says(f"data.train_files={tmp_path / 'once' / FILE}") == (True, "as verl makes them, with data.shuffle=True")
