"""Which queries are chosen to be labelled next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.records.ids import query_id
from memstore.snapshots.snapshot import Snapshot
from memstore.types import AUDIT_SPLIT
from memstore_gnn.data.groups import groups_of
from memstore_gnn.data.visibility import audit_queries
from memstore_gnn.queue.candidates import candidates
from memstore_gnn.queue.choose import choose_queries
from memstore_gnn.queue.cover import Cover, CoverSettings, Neighbourhood, cover_queries, greedy
from memstore_gnn.queue.items import QueueItem
from memstore_gnn.queue.worth import advantage_worth
from tests.gnn.snapshots import build_snapshot


def rows(query: str, *answers: str, rewards: Sequence[float | None] = (), **more: Any) -> list[dict[str, Any]]:
    """Rollouts of a query with these answers; labels of the first ones."""
    labels = [*rewards, *[None] * (len(answers) - len(rewards))]
    return [
        {"query": query, "value": value, "reward": label, **more} for value, label in zip(answers, labels, strict=True)
    ]


def unit(rng: np.random.Generator, count: int, dimension: int = 4) -> np.ndarray:
    x = rng.normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


# -- open queries -----------------------------------------------------------------------------------------------------


def test_what_can_still_be_labelled() -> None:
    snapshot = build_snapshot(
        [
            *rows("free", "1", "1", "2"),
            *rows("settled", "1", "2", rewards=[1.0]),
            *rows("one is wrong", "1", "2", rewards=[0.0]),
            *rows("all wrong", "1", "2", rewards=[0.0, 0.0]),
            *rows("program", "a", "b", rewards=[1.0], domain="code"),
            *rows("no answer", "", ""),
        ]
    )
    found = candidates(snapshot)
    texts = snapshot.queries["text"].to_pylist()
    assert {texts[row] for row in np.flatnonzero(found.open)} == {"free", "one is wrong", "program"}
    assert {texts[row] for row in np.flatnonzero(found.labelled)} == {"settled", "one is wrong", "all wrong", "program"}
    cells = found.cells_of(texts.index("free"))
    assert found.share[cells].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.p[cells].tolist() == pytest.approx([2 / 4, 1 / 4]), "n_a / (n + 1)"
    judged = found.cells_of(texts.index("one is wrong"))
    assert sorted(found.p[judged].tolist()) == pytest.approx([0.0, 1 / 2])


# -- worth of a label -------------------------------------------------------------------------------------------------


def expected_change(answers: list[str], p: dict[str, float], *, one_right: bool) -> float:
    """The formula of the module, written out over the outcomes of a label."""
    reward = np.array([p.get(answer, 0.0) for answer in answers])

    def advantage(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - values.mean())

    def change(truth: np.ndarray) -> float:
        return float(((advantage(truth) - advantage(reward)) ** 2).mean())

    if not one_right:
        values = {a: (np.array([answer == a for answer in answers]), p[a]) for a in p}
        return sum(q * (1 - q) * float((advantage(one.astype(float)) ** 2).mean()) for one, q in values.values())
    total = max(sum(p.values()), 1.0)
    outcomes = [(np.array([float(answer == a) for answer in answers]), p[a] / total) for a in p]
    outcomes.append((np.zeros(len(answers)), 1 - sum(share for _, share in outcomes)))
    return sum(share * change(truth) for truth, share in outcomes)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_worth_is_the_expected_change_of_the_advantages(data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=6))
    p = {answer: data.draw(st.floats(0, 1)) for answer in sorted(set(answers))}
    domain = data.draw(st.sampled_from(["math", "code"]))
    snapshot = build_snapshot(rows("q", *answers, domain=domain))
    values = dict(zip(snapshot.answers["id"].to_pylist(), snapshot.answers["value"].to_pylist(), strict=True))
    leads = snapshot.edges["leads_to"]
    probability = np.empty(len(answers))
    for rollout, answer in zip(leads.source, leads.target, strict=True):
        probability[rollout] = p[values[snapshot.answers["id"][int(answer)].as_py()]]
    [worth] = advantage_worth(candidates(snapshot, probability))
    assert worth == pytest.approx(expected_change(answers, p, one_right=domain == "math"), abs=1e-9)


def test_a_query_whose_rollouts_agree_is_worth_little() -> None:
    snapshot = build_snapshot([*rows("agree", *["1"] * 8), *rows("split", *["1"] * 4, *["2"] * 4)])
    worth = dict(zip(snapshot.queries["text"].to_pylist(), advantage_worth(candidates(snapshot)), strict=True))
    assert worth["agree"] == pytest.approx(0)
    assert worth["split"] > 0.1


# -- coverage ---------------------------------------------------------------------------------------------------------


def brute_force(x: np.ndarray, weight: np.ndarray, labelled: list[int], limit: int, exponent: int) -> list[int]:
    """The greedy choice, every gain computed anew."""
    similarity = np.maximum(x @ x.T, 0) ** exponent
    chosen: list[int] = []
    for _ in range(limit):
        covered = similarity[:, labelled + chosen].max(axis=1, initial=0.0)
        gains = [np.sum(weight * np.maximum(row - covered, 0)) for row in similarity]
        for taken in labelled + chosen:
            gains[taken] = -1
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize(("seed", "exponent"), [(0, 1), (1, 2), (2, 3), (3, 8), (4, 13)])
def test_lazy_greedy_chooses_what_greedy_chooses(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = unit(rng, 60, 6), rng.uniform(0.1, 1.1, 60)
    labelled = np.zeros(60, np.bool_)
    labelled[:3] = True
    cover = Cover(x, weight, labelled, CoverSettings(exponent=exponent))
    picks = greedy(cover, np.arange(3, 60), Neighbourhood(x[labelled]), 12, duplicate=2.0)
    assert [pick.row for pick in picks] == brute_force(x, weight, [0, 1, 2], 12, exponent)
    assert all(first.gain >= later.gain - 1e-6 for first, later in itertools.pairwise(picks))


def test_half_agreement_comes_first_and_unanimity_last() -> None:
    apart, share = np.eye(4, dtype=np.float32), np.array([1.0, 0.5, 0.0, 0.2])
    assert cover_queries(apart, share, 3) == [1, 3, 0]
    east, north = [1.0, 0.0], [0.0, 1.0]
    chosen = cover_queries(np.array([east, east, east, north], np.float32), np.full(4, 0.5), 2)
    assert chosen == [0, 3], "a second query of a cluster adds nothing"
    close, share = np.array([[1.0, 0.0], [0.8, 0.6], [0.28, 0.96]], np.float32), np.array([0.5, 0.8, 0.5])
    assert cover_queries(close, share, 2) == [0, 2], "a cosine of .8 hardly covers"
    assert cover_queries(close, share, 2, CoverSettings(exponent=1))[0] == 1


def test_near_duplicates_come_last_and_only_if_needed() -> None:
    base = unit(np.random.default_rng(0), 3, 8)
    x = np.concatenate((base, base, base))
    cover = Cover(x, np.ones(9), np.zeros(9, np.bool_), CoverSettings())
    picks = greedy(cover, np.arange(9), Neighbourhood(x[:0]), 5, 0.95)
    assert len({pick.row % 3 for pick in picks[:3]}) == 3
    assert len({pick.row for pick in picks}) == 5
    assert [pick.similarity >= 0.95 for pick in picks] == [False] * 3 + [True] * 2


def test_a_sample_of_a_large_memory_covers_nearly_as_well() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng, 40, 32)
    x = centres[rng.integers(40, size=3000)] + 0.05 * rng.normal(size=(3000, 32))
    x = np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)
    weight, none = rng.uniform(0.1, 1.1, 3000), np.zeros(3000, np.bool_)

    def value(sample: int) -> float:
        cover = Cover(x, weight, none, CoverSettings(sample=sample))
        chosen = [pick.row for pick in greedy(cover, np.arange(3000), Neighbourhood(x[:0]), 60, 2.0)]
        return float(weight @ (np.maximum(x @ x[chosen].T, 0) ** CoverSettings().exponent).max(axis=1))

    assert value(1000) > 0.975 * value(3000)


# -- the queue --------------------------------------------------------------------------------------------------------


def world(labelled: int = 0, queries: int = 40) -> Snapshot:
    rng = np.random.default_rng(1)
    made, vectors = [], {}
    for number in range(queries):
        text = f"query {number}"
        answers = [str(rng.integers(3)) for _ in range(6)]
        made += rows(text, *answers, rewards=[1.0] * 6 if number < labelled else [], domain="other")
        vectors[text] = unit(rng, 1)[0]
    return build_snapshot(made, vectors)


def ids(items: Sequence[QueueItem], purpose: str) -> list[str]:
    return [item.query_id for item in items if item.purpose == purpose]


@pytest.mark.parametrize("criterion", ["training", "pages"])
def test_a_fifth_is_for_audit_and_spread(criterion: Any) -> None:
    items = choose_queries(world(labelled=5), 20, criterion=criterion)
    audit = [item.purpose == "audit" for item in items]
    assert sum(audit) == 4
    assert [sum(audit[start : start + 5]) for start in range(0, 20, 5)] == [1, 1, 1, 1]
    assert len({item.query_id for item in items}) == 20
    assert not {item.query_id for item in items} & {query_id(f"query {number}") for number in range(5)}
    assert items == choose_queries(world(labelled=5), 20, criterion=criterion)


def test_audit_queries_are_uniform_and_do_not_depend_on_the_criterion() -> None:
    snapshot = world()
    drawn = [ids(choose_queries(snapshot, 10, seed=seed), "audit") for seed in range(200)]
    counts = np.unique([name for names in drawn for name in names], return_counts=True)[1]
    assert len(counts) == 40
    assert counts.max() < 25, "400 draws over 40 queries: 10 each, standard deviation 3"
    assert drawn[0] == ids(choose_queries(snapshot, 10, criterion="pages"), "audit")


def with_audit(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """Mark queries: their IN edge gets the split `audit`."""
    chosen = np.isin(snapshot.queries["id"].to_numpy(), list(names))
    edges = snapshot.edges["in"]
    split = [AUDIT_SPLIT if chosen[row] else None for row in edges.source]
    columns = edges.properties.set_column(1, edges.properties.schema.field("split"), [split])
    return Snapshot(
        **{**vars(snapshot), "edges": {**snapshot.edges, "in": EdgeTable(edges.source, edges.target, columns)}}
    )


def test_marked_audit_queries_come_first_and_are_never_chosen_for_training() -> None:
    marked = [query_id(f"query {number}") for number in range(8)]
    snapshot = with_audit(world(), marked)
    assert audit_queries(snapshot).sum() == 8
    few = choose_queries(snapshot, 20)
    assert set(ids(few, "audit")) < set(marked)
    everything = choose_queries(snapshot, 40, audit_share=0.0)
    assert len(everything) == 32
    assert not set(ids(everything, "label")) & set(marked)


def test_an_item_says_why_and_what_the_answers_are() -> None:
    vectors = {"q": [1, 0, 0, 0], "r": [0, 1, 0, 0]}
    snapshot = build_snapshot([*rows("q", "1", "1", "1", "2", ""), *rows("r", "1", "1")], vectors)
    training = choose_queries(snapshot, 2, audit_share=0)[0]
    assert training.why["uncertainty"] == pytest.approx(4 * 3 / 5 * 2 / 5 + 0.1)
    assert training.reason.startswith("votes 3:1, nearest labelled or chosen query 0.00")
    row = training.as_json()
    assert [(a["answer"], a["rollouts"], a["share"], round(a["p"], 3)) for a in row["answers"]] == [
        ("1", 3, 0.6, 0.5),
        ("2", 1, 0.2, 0.167),
    ]
    assert (row["query"], row["rollouts"], row["split"], row["dataset"]) == ("q", 5, None, "toy")
    pages = choose_queries(snapshot, 2, criterion="pages", audit_share=0)
    assert [item.query for item in pages] == ["q", "r"]
    assert pages[0].why["worth"] > pages[1].why["worth"]


@pytest.mark.parametrize(
    ("snapshot", "options", "message"),
    [
        (build_snapshot([]), {}, "the memory has no rollouts to label"),
        (build_snapshot(rows("q", "1", rewards=[1.0])), {}, "no query is left to label"),
        (build_snapshot(rows("q", "1")), {"limit": 0}, "a queue of 0 queries"),
        (build_snapshot(rows("q", "1")), {"audit_share": 1.5}, "an audit share of 1.5"),
        (build_snapshot(rows("q", "1")), {"criterion": "luck"}, "there is no criterion 'luck'"),
    ],
)
def test_bad_input_is_one_sentence(snapshot: Snapshot, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_queries(snapshot, options.pop("limit", 5), **options)


def test_the_votes_of_a_query_are_the_groups_of_the_model() -> None:
    """One partition by query and answer: shares here are those that features use."""
    snapshot = world()
    groups, found = groups_of(snapshot), candidates(snapshot)
    assert found.share.max() == groups.share.max()
    assert len(found.query) == len(groups.answer.count)
