"""One rollout: its whole text, its scores by every model, and all the evidence of the one in use."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import Cut, cut
from memstore_rl.inspector.views.evidence import Evidence, evidence_of
from memstore_rl.inspector.views.missing import NotThere
from memstore_schema.columns import EdgeType, NodeLabel

TEXT = 200_000
"""Characters of a thinking or an answer on its page; a link leads to the whole."""
EVIDENCE = 100
_COLUMNS = (
    "id", "text", "dataset", "query_key", "policy", "run", "step", "sample_index", "mean_logprob", "finish_reason",
    "reward", "reward_source", "created_at", "metadata",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A model's score of the rollout."""

    model: str
    probability: float
    reward: float | None
    source: str | None
    scored_at: dt.datetime | None


@dataclass(frozen=True)
class RolloutPage:
    """A rollout with all that is known of it."""

    id: str
    query: str
    query_text: str
    thinking: Cut
    answer: str | None
    """Id of its answer."""
    written: Cut
    """The answer as it wrote it."""
    facts: dict[str, object]
    """What the record says, by name; without what is unknown."""
    reward: float | None
    reward_source: str | None
    scores: tuple[Score, ...]
    model: str | None
    evidence: tuple[Evidence, ...]


def rollout_page(source: Source, rollout: str) -> RolloutPage:
    """All about a rollout.

    Raises:
        NotThere: it does not exist.
    """
    found = source.nodes(NodeLabel.THINKING, list(_COLUMNS), ids=[rollout]).to_pylist()
    if not found:
        raise NotThere(f"there is no rollout {rollout}; search for its query by its text or key")
    row = found[0]
    generates = source.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [rollout], by="target")
    query = generates["source_id"][0].as_py()
    text = source.nodes(NodeLabel.QUERY, ["text"], ids=[query])["text"][0].as_py()
    leads = source.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [rollout], columns=["text"])
    lead = leads.to_pylist()[0] if len(leads) else {}
    model = source.model_in_use()
    known = ("dataset", "query_key", "policy", "run", "step", "sample_index", "mean_logprob", "finish_reason")
    facts = {name.replace("_", " "): row[name] for name in (*known, "created_at", "metadata") if row[name] is not None}
    return RolloutPage(
        id=rollout,
        query=query,
        query_text=text or "",
        thinking=cut(row["text"], TEXT),
        answer=lead.get("target_id"),
        written=cut(lead.get("text"), TEXT),
        facts=facts,
        reward=row["reward"],
        reward_source=row["reward_source"],
        scores=_scores(source, rollout),
        model=model,
        evidence=tuple(evidence_of(source, [rollout], model, EVIDENCE).get(rollout, ())),
    )


def _scores(source: Source, rollout: str) -> tuple[Score, ...]:
    columns = ["probability", "reward", "source", "scored_at"]
    ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
    edges = source.edges_of(*ends, [rollout], columns=columns).to_pylist()
    return tuple(
        Score(edge["target_id"], *(edge[name] for name in columns))
        for edge in sorted(edges, key=lambda edge: edge["target_id"])
    )


def whole_text(source: Source, rollout: str) -> str:
    """The thinking and the answer of a rollout, as plain text.

    Raises:
        NotThere: it does not exist.
    """
    found = source.nodes(NodeLabel.THINKING, ["text"], ids=[rollout])
    if not len(found):
        raise NotThere(f"there is no rollout {rollout}; search for its query by its text or key")
    leads = source.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [rollout], columns=["text"])
    parts = [found["text"][0].as_py(), leads["text"][0].as_py() if len(leads) else None]
    return "\n\n".join(part for part in parts if part)
