"""Rows of training data, with the columns that TRL reads and the source of each.

    best    prompt, completion          SFTTrainer: prompt-completion
    pairs   prompt, chosen, rejected    DPOTrainer: preference

The other columns say where a row comes from: `query_id`, `dataset`, `key`, `domain` and `split` of the query with the
number of its `rollouts`; of each rollout `rollout_id`, `answer_id`, `policy`, `run`, `step`, `sample_index`, its
`reward` (0..1) with its `source` and `probability`, and the `votes` for its answer; and the `model` that the
probabilities are from. Rows of pairs have the `gap` between the rewards, and the columns of a rollout twice, as
`chosen_reward` and `rejected_reward`. Texts are read in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from memstore.errors import StoreError
from memstore_rl.inspector.source import Source
from memstore_rl.training_data.candidates import Candidate, Query
from memstore_rl.training_data.select import Pair
from memstore_rl.training_data.template import Template
from memstore_schema.columns import EdgeType, NodeLabel

BLOCK = 2_000
"""Rows whose texts are read at once."""
Selected: TypeAlias = Candidate | Pair
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_QUERY = {name: pa.string() for name in ("query_id", "dataset", "key", "domain", "split")} | {"rollouts": pa.int64()}
_ROLLOUT = {
    "rollout_id": pa.string(),
    "answer_id": pa.string(),
    "policy": pa.string(),
    "run": pa.string(),
    "step": pa.int64(),
    "sample_index": pa.int64(),
    "reward": pa.float64(),
    "source": pa.string(),
    "probability": pa.float64(),
    "votes": pa.int64(),
}
_SIDES = ("chosen", "rejected")


class Row(NamedTuple):
    """What a row is made of."""

    query: Query
    selected: Selected


@dataclass(frozen=True)
class RowMaker:
    """Makes rows with texts."""

    source: Source
    model: str | None
    template: Template
    schema: pa.Schema

    def tables(self, rows: Sequence[Row], advance: Callable[[int], None]) -> Iterator[pa.Table]:
        """Tables of up to `BLOCK` rows, in order; `advance` is called with the number of rows of each."""
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            texts = _Texts.read(self.source, block)
            yield pa.Table.from_pylist([self._values(row, texts) for row in block], self.schema)
            advance(len(block))

    def _values(self, row: Row, texts: _Texts) -> dict[str, Any]:
        query, selected = row
        origin = {
            "query_id": query.id,
            "dataset": query.dataset,
            "key": query.key,
            "domain": query.domain,
            "split": query.split,
            "rollouts": query.rollouts,
            "model": self.model,
        }
        prompt = self.template.prompt_of(texts.queries[query.id])

        def completion(one: Candidate) -> object:
            return self.template.completion_of(*texts.rollouts[one.id])

        if isinstance(selected, Candidate):
            return {"prompt": prompt, "completion": completion(selected)} | origin | _rollout(selected, "")
        values: dict[str, Any] = {"prompt": prompt, **origin, "gap": selected.gap}
        for side, one in zip(_SIDES, selected, strict=True):
            values |= {side: completion(one)} | _rollout(one, f"{side}_")
        return values


def best_schema(template: Template) -> pa.Schema:
    """Columns of rows of best rollouts."""
    content = _content(template)
    return pa.schema({"prompt": content, "completion": content} | _QUERY | _ROLLOUT | {"model": pa.string()})


def pair_schema(template: Template) -> pa.Schema:
    """Columns of rows of pairs."""
    content = _content(template)
    sides = {f"{side}_{name}": kind for side in _SIDES for name, kind in _ROLLOUT.items()}
    texts = {"prompt": content, "chosen": content, "rejected": content}
    return pa.schema(texts | _QUERY | {"gap": pa.float64()} | sides | {"model": pa.string()})


def _content(template: Template) -> pa.DataType:
    return pa.string() if template.plain else _MESSAGES


def _rollout(one: Candidate, prefix: str) -> dict[str, Any]:
    values = one._asdict()
    values |= {"rollout_id": one.id, "answer_id": one.answer}
    return {prefix + name: values[name] for name in _ROLLOUT}


class _Texts(NamedTuple):
    """Texts by id: of queries, and the thinking and the answer of rollouts."""

    queries: dict[str, str]
    rollouts: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, source: Source, rows: Sequence[Row]) -> _Texts:
        """Read the texts of rows.

        Raises:
            StoreError: some are gone.
        """
        chosen = [one for row in rows for one in (row.selected if isinstance(row.selected, Pair) else (row.selected,))]
        queries, rollouts = sorted({row.query.id for row in rows}), sorted({one.id for one in chosen})
        asked = source.nodes(NodeLabel.QUERY, ["id", "text"], ids=queries)
        thought = source.nodes(NodeLabel.THINKING, ["id", "text"], ids=rollouts)
        leads = source.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, rollouts, columns=["text"])
        if (len(asked), len(thought), len(leads)) != (len(queries), len(rollouts), len(rollouts)):
            raise StoreError("rollouts were deleted while the memory was read; export again")
        answers = dict(zip(leads["source_id"].to_pylist(), leads["text"].to_pylist(), strict=True))
        thinkings = zip(thought["id"].to_pylist(), thought["text"].to_pylist(), strict=True)
        return cls(
            dict(zip(asked["id"].to_pylist(), asked["text"].to_pylist(), strict=True)),
            {name: (text or "", answers[name] or "") for name, text in thinkings},
        )
