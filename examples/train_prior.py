"""Train the prior that ships with the package, and measure it on sets that it was not trained on.

    python examples/train_prior.py FOLDER [--output gnn/memstore_gnn/models/prior.safetensors] [--queries 400]

FOLDER holds one `.jsonl.gz` for each set, with rewards, as `memstore ingest` reads it. Each set becomes a memory with
the given number of queries, drawn with a seed. The figures on the card are leave-one-set-out: each half of a set's
queries is predicted by a prior trained on the queries of all other sets that share no key and no text with a query of
that half. The shipped prior is trained on all sets.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.memory import Memory
from memstore.snapshots.aliases import first_keys
from memstore.types import FloatVector
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.metrics import measure
from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.design import votes
from memstore_gnn.models.prior import SHIPPED, LabelledSet, train_prior

SOURCES = {
    "openai_gsm__gsm8k": ("github.com/openai/grade-school-math", "MIT"),
    "zeroeval__gsm8k": ("github.com/WildEval/ZeroEval", "Apache-2.0"),
    "faithfulcot__gsm8k": ("github.com/veronica320/Faithful-COT", "MIT"),
    "mmlupro__mmlu_pro_ori": ("github.com/TIGER-AI-Lab/MMLU-Pro", "Apache-2.0"),
    "thoughtsource__csqa": ("github.com/OpenBioLink/ThoughtSource", "MIT"),
    "codet__humaneval": ("github.com/microsoft/CodeT", "MIT"),
    "icescore__humaneval": ("github.com/terryyz/ice-score", "MIT"),
}
"""Source and licence of the rollouts of each known set."""
FIGURES = ("auc", "advantage_soft", "ece")


class Set(NamedTuple):
    """A file as a memory, with the keys and texts that identify equal queries of other sets."""

    name: str
    learned: LabelledSet
    key: NDArray[np.object_]
    """Of each query, as the text; [Q]."""
    text: NDArray[np.object_]

    def without(self, keys: Iterable[str], texts: Iterable[str]) -> LabelledSet:
        """The set without the labels of queries that have one of these keys or texts."""
        gone = np.isin(self.key, list(keys)) | np.isin(self.text, list(texts))
        reward = np.where(gone[self.learned.free.groups.query_of], np.nan, self.learned.reward)
        return self.learned._replace(reward=reward)


def read_set(path: Path, queries: int, work: Path) -> Set:
    """Draw queries from a file and read their rollouts."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    keys = sorted({row["query_id"] for row in rows})
    chosen = set(np.random.default_rng(0).permutation(keys)[:queries].tolist())
    kept = [row for row in rows if row["query_id"] in chosen]
    name = path.name.removesuffix(".jsonl.gz")
    drawn = work / f"{name}.jsonl"
    drawn.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    with Memory.open(work / name, create=True) as memory:
        memory.ingest([drawn])
        snapshot = memory.snapshot()
    key = np.array(first_keys(snapshot), dtype=object)
    text = np.array(snapshot.queries["text"].to_pylist(), dtype=object)
    return Set(name, LabelledSet.of(snapshot, rewards_of(snapshot)), key, text)


def figures(one: Set, logit: FloatVector) -> dict[str, float]:
    """AUC, soft advantage and calibration error over the rollouts whose reward is known."""
    known = np.isfinite(one.learned.reward)
    query = one.learned.free.groups.query_of
    metrics = measure(sigmoid(logit)[known], one.learned.reward[known], query[known])
    return {name: round(float(getattr(metrics, name)), 4) for name in FIGURES}


def left_out(one: Set, sets: Sequence[Set]) -> dict[str, Any]:
    """What plain votes, weighted votes and a prior of other sets give on a set, without its labels."""
    both, others = votes(one.learned.free), [other for other in sets if other.name != one.name]
    return {
        "votes": figures(one, both[:, 0]),
        "weighted_votes": figures(one, both[:, 1]),
        "prior": figures(one, unseen(one, others)),
        "prior_without_sharpness": figures(one, unseen(one, others, scaled=False)),
    }


def unseen(one: Set, others: Sequence[Set], scaled: bool = True) -> FloatVector:
    """Log odds float64 [T] of a set's rollouts, each half of its queries by a prior that saw none of them."""
    logit = np.empty(len(one.learned.reward))
    half = np.random.default_rng(0).permutation(len(one.key)) % 2
    for part in (0, 1):
        queries = half == part
        learned = [other.without(one.key[queries], one.text[queries]) for other in others]
        prior = train_prior([each for each in learned if np.isfinite(each.reward).any()])
        prior = prior if scaled else replace(prior, inverse_temperature={})
        rows = queries[one.learned.free.groups.query_of]
        logit[rows] = prior.logit(one.learned.free, one.learned.domain)[rows]
    return logit


def card_of(sets: Sequence[Set], queries: int) -> dict[str, Any]:
    """The card: data, licences and figures."""
    data = []
    for one in sets:
        source, licence = SOURCES.get(one.name, ("unknown", "unknown"))
        sizes = {"queries": len(one.learned.free.groups.query.count), "rollouts": len(one.learned.reward)}
        data.append({"set": one.name, "source": source, "licence": licence, **sizes})
    return {
        "description": "Coefficients on label-free features of rollouts, shrunk around the votes' log odds.",
        "data": data,
        "queries_of_a_set_at_most": queries,
        "left_out": {one.name: left_out(one, sets) for one in sets},
        "left_out_means": "No label of the set is seen, nor one of another set's rollouts of the same query: each "
        "half of its queries is predicted by a prior from what the other sets have of other queries. Votes are those "
        "of equal answers, in code of programs that do the same. Without sharpness: domains are not told apart.",
    }


def main() -> None:
    """Read the sets, measure, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=SHIPPED)
    parser.add_argument("--queries", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        sets = [read_set(path, options.queries, Path(work)) for path in sorted(options.folder.glob("*.jsonl.gz"))]
    card = card_of(sets, options.queries)
    train_prior([one.learned for one in sets], card).save(options.output)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes, from {len(sets)} sets")
    for name, row in card["left_out"].items():
        print(name, {kind: row[kind] for kind in ("votes", "weighted_votes", "prior") if kind in row})


if __name__ == "__main__":
    main()
