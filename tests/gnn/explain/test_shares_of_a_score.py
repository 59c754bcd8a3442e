"""The weights of an explanation add up to the log odds of the score, and each is made of real scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.progress import Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.evaluation.evaluate import with_rewards
from memstore_gnn.explain.explain import Explanation, explain
from memstore_gnn.explain.measure import CERTAIN
from memstore_gnn.explain.recalled import recalled_for
from memstore_gnn.explain.scene import Removed, Scene, scene_of
from memstore_gnn.explain.shares import logit_of
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.scoring.score import score_memory
from memstore_gnn.training.fit import fit
from memstore_schema.columns import NodeLabel

EXACT = 1e-9
POLICIES = (("good", 1, 0.9), ("bad", 2, 0.3), ("fair", None, 0.6))
QUERIES = 20


def policies_rows() -> list[dict[str, Any]]:
    """Three policies answer each query twice. The first query is not labelled, the second has one labelled rollout."""
    rng, rows = np.random.default_rng(5), []
    for number in range(QUERIES):
        for policy, step, skill in POLICIES:
            for sample in range(2):
                right = rng.random() < skill
                value = str(number + 7 if right else number + 8 + rng.integers(2))
                row = {"query": f"{number} + 7?", "value": value, "policy": policy, "step": step}
                row |= {"sample_index": sample, "thinking": f"{policy} tries {sample} times: {value}"}
                if number > 1 or (number == 1 and policy == "good" and sample == 0):
                    row["reward"] = float(right)
                rows.append(row)
    return rows


class Voted:
    """A memory of three policies, and a model of it."""

    def __init__(self, build_snapshot: Callable[..., Snapshot]) -> None:
        rows = policies_rows()
        rng = np.random.default_rng(6)
        vectors = [unit(rng.normal(size=12) + 2.0 * (row.get("reward") or 0.0)) for row in rows]
        query_x = {row["query"]: unit(rng.normal(size=12)) for row in rows}
        self.snapshot = build_snapshot(rows, query_x, vectors)
        self.reward: FloatVector = rewards_of(self.snapshot)
        self.verdicts: Verdicts = verdicts_of(self.snapshot, visible(self.snapshot))
        self.model: RewardModel = fit(
            self.snapshot, self.reward, settings=TrainSettings(members=2, epochs=10), device="cpu"
        )

    def rows(self, query: str, policy: str) -> list[int]:
        own = self.snapshot.queries["text"].to_pylist().index(query)
        named = np.array(self.snapshot.thinkings["policy"].to_pylist()) == policy
        return np.flatnonzero((query_of_thinkings(self.snapshot) == own) & named).tolist()

    def scene(self, row: int) -> Scene:
        return scene_of(self.model, self.snapshot, self.reward, row, self.verdicts)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture(scope="module")
def voted(build_snapshot: Callable[..., Snapshot]) -> Voted:
    return Voted(build_snapshot)


@pytest.fixture(scope="module")
def scene(voted: Voted) -> Scene:
    return voted.scene(voted.rows("0 + 7?", "fair")[0])


@pytest.fixture(scope="module")
def explained(scene: Scene) -> Explanation:
    return explain(scene)


def of_kind(explained: Explanation, kind: str) -> list[Any]:
    return [one for one in explained.influences if one.kind == kind]


def assert_adds_up(explained: Explanation) -> None:
    assert sum(one.weight for one in explained.influences) == pytest.approx(explained.logit, abs=EXACT)
    assert sum(edge.weight for edge in explained.edges) == pytest.approx(explained.logit, abs=EXACT)
    names = [(edge.node, edge.id) for edge in explained.edges]
    assert len(set(names)) == len(names)


def test_weights_of_votes_labels_features_and_prior_add_up(voted: Voted, scene: Scene, explained: Explanation) -> None:
    (row,) = np.flatnonzero(np.array(voted.snapshot.thinkings["id"].to_pylist()) == scene.id)
    scores = score_memory(voted.model, voted.snapshot, reward=voted.reward, verdicts=voted.verdicts)
    assert explained.probability == pytest.approx(dict(zip(*scores[:2], strict=True))[scene.id], abs=1e-6)
    assert np.isnan(voted.reward[row])
    assert explained.logit == pytest.approx(logit_of(explained.probability), abs=EXACT)
    assert_adds_up(explained)
    kinds = {"vote", "rollout", "reliability", "labelled rollout", "labelled query", "features", "prior"}
    assert {one.kind for one in explained.influences} >= kinds
    assert (len(of_kind(explained, "vote")), len(of_kind(explained, "rollout"))) == (4, 1)
    tables = {NodeLabel.THINKING: "thinkings", NodeLabel.QUERY: "queries", NodeLabel.ANSWER: "answers"}
    tables |= {NodeLabel.POLICY: "policies"}
    known = {label: set(getattr(voted.snapshot, name)["id"].to_pylist()) for label, name in tables.items()}
    known[NodeLabel.REWARD_MODEL] = {voted.model.card.id}
    assert {edge.node for edge in explained.edges} == set(known)
    assert all(edge.id in known[edge.node] for edge in explained.edges)


def test_an_effect_of_a_vote_is_its_removal_from_the_memory(voted: Voted, scene: Scene, explained: Explanation) -> None:
    """The policies' reliabilities are held, as the module says."""
    held, ids = stored_votes(voted.snapshot, voted.verdicts), voted.snapshot.thinkings["id"].to_numpy()
    moved = 0
    for one in [*of_kind(explained, "vote"), *of_kind(explained, "rollout")]:
        kept = ids != one.id
        memory, reward = some_rollouts(voted.snapshot, kept), voted.reward[kept]
        scores = score_memory(voted.model, memory, reward=reward, stored=held.without([one.id]))
        without = dict(zip(*scores[:2], strict=True))[scene.id]
        assert one.without == pytest.approx(without, abs=1e-6), one
        moved += abs(one.effect) > 1e-3
    assert moved >= 2


def test_votes_that_are_alike_are_removed_once(voted: Voted) -> None:
    scene = voted.scene(voted.rows("3 + 7?", "bad")[1])
    assert len(scene.alike) == 4
    for one in scene.alike:
        removed = Removed(rollouts=frozenset([one]))
        # Sums of 32-bit numbers in another order differ in their last digit.
        assert scene.probability(removed) == pytest.approx(scene._predicted(removed), abs=1e-7)
    same = [one.without for one in of_kind(explain(scene), "vote")]
    assert len(set(same)) <= len(set(scene.alike.values())) < 4


def test_votes_of_others_are_counted(voted: Voted, scene: Scene, explained: Explanation) -> None:
    votes = of_kind(explained, "vote")
    assert explained.others == len(votes) == 4
    assert explained.votes_of_others == sum(one.text == explained.answer for one in votes)


def test_an_effect_of_a_policy_is_the_score_with_votes_of_the_mean_policy(
    voted: Voted, scene: Scene, explained: Explanation
) -> None:
    held = stored_votes(voted.snapshot, voted.verdicts)
    found = {one.text.partition(" ")[0].rstrip(":"): one for one in of_kind(explained, "reliability")}
    assert set(found) == {"good", "bad", "fair"}
    for policy, step, _ in POLICIES:
        stored = held.at_mean([(policy, step)])
        scores = score_memory(voted.model, voted.snapshot, reward=voted.reward, stored=stored)
        assert found[policy].without == pytest.approx(dict(zip(*scores[:2], strict=True))[scene.id], abs=1e-6)
        assert found[policy].taken == 2
    assert abs(found["good"].effect) > 1e-4


def test_what_a_node_carries_is_removed_together(scene: Scene, explained: Explanation) -> None:
    families = frozenset(one.text for one in of_kind(explained, "features"))
    (answer,) = [edge for edge in explained.edges if edge.node is NodeLabel.ANSWER]
    assert len(families) > 1
    without = scene.probability(Removed(families=families))
    assert answer.effect == pytest.approx(explained.probability - without, abs=EXACT)
    assert answer.weight == pytest.approx(sum(one.weight for one in of_kind(explained, "features")), abs=EXACT)
    (prior,) = of_kind(explained, "prior")
    assert logit_of(prior.without) == pytest.approx(explained.logit - prior.weight, abs=1e-6)


def test_the_prior_is_the_score_without_anything_else(scene: Scene, explained: Explanation) -> None:
    everything = Removed(far=True)
    for item in explained.influences:
        if item.kind in ("vote", "rollout"):
            everything |= Removed(rollouts=frozenset([item.id]))
        if item.kind == "features":
            everything |= Removed(families=frozenset([item.text]))
    everything |= Removed(labels=frozenset(np.flatnonzero(np.isfinite(scene.reward)).tolist()))
    (prior,) = of_kind(explained, "prior")
    assert prior.weight == pytest.approx(logit_of(scene.probability(everything)), abs=EXACT)


def test_equal_votes_have_equal_weights(voted: Voted, build_snapshot: Callable[..., Snapshot]) -> None:
    """Two policies that nothing is known of give one answer."""
    rows = policies_rows()
    rows += [{"query": "1000 + 7?", "value": "1007", "policy": name, "thinking": "1007"} for name in ("x", "y", "z")]
    snapshot = build_snapshot(rows, dimension=12)
    reward = rewards_of(snapshot)
    row = snapshot.thinkings["policy"].to_pylist().index("z")
    explained = explain(scene_of(voted.model, snapshot, reward, row, verdicts_of(snapshot, visible(snapshot))))
    first, second = of_kind(explained, "vote")
    assert first.weight == pytest.approx(second.weight, abs=EXACT)
    assert first.effect == pytest.approx(second.effect, abs=EXACT)
    assert first.effect > 0.01
    assert_adds_up(explained)


@pytest.mark.parametrize("policy", ["good", "bad"])
def test_a_remembered_verdict_is_a_message_of_its_answer(voted: Voted, policy: str) -> None:
    """One rollout of the query is labelled: its answer is right, or another is."""
    rows = [row for row in voted.rows("1 + 7?", policy) if np.isnan(voted.reward[row])]
    scene = voted.scene(rows[0])
    recalled = recalled_for(scene, voted.snapshot, voted.verdicts)
    assert recalled is not None
    explained = explain(scene, Silent(), recalled)
    assert (explained.source, explained.reward) == ("remembered", recalled.verdict.value)
    assert explained.logit == pytest.approx(math.copysign(logit_of(1.0 - CERTAIN), recalled.verdict.value - 0.5))
    assert_adds_up(explained)
    (verdict,) = of_kind(explained, "remembered verdict")
    labelled = [row for row in voted.rows("1 + 7?", "good") if np.isfinite(voted.reward[row])]
    leads = voted.snapshot.edges["leads_to"]
    assert verdict.id == voted.snapshot.answers["id"][int(leads.target[leads.source == labelled[0]][0])].as_py()
    assert verdict.effect == pytest.approx(recalled.verdict.value - explained.probability, abs=EXACT)
    assert explained.probability == pytest.approx(scene.probability(), abs=EXACT)


def test_a_group_that_declines_has_the_prior_alone(voted: Voted, build_snapshot: Callable[..., Snapshot]) -> None:
    rows = policies_rows()
    rows += [{"query": "what?", "value": "I don't know", "policy": "shy", "sample_index": n} for n in range(2)]
    snapshot = build_snapshot(rows, dimension=12)
    row = snapshot.thinkings["policy"].to_pylist().index("shy")
    explained = explain(scene_of(voted.model, snapshot, rewards_of(snapshot), row))
    (prior,) = explained.influences
    assert (prior.kind, explained.probability) == ("prior", pytest.approx(np.nanmean(rewards_of(snapshot))))
    assert_adds_up(explained)


def test_without_labels_every_message_comes_from_votes_and_texts(voted: Voted) -> None:
    bare = with_rewards(voted.snapshot, np.full(len(voted.reward), np.nan))
    row = voted.rows("0 + 7?", "bad")[1]
    explained = explain(scene_of(voted.model, bare, rewards_of(bare), row))
    assert {one.kind for one in explained.influences} == {"vote", "rollout", "reliability", "features", "prior"}
    assert_adds_up(explained)


def test_a_verdict_by_a_reference_answer_is_a_message_of_the_own_answer(voted: Voted) -> None:
    """The query is labelled, and the answers of the two other policies are not judged."""
    row = next(row for row in voted.rows("1 + 7?", "bad") if np.isnan(voted.reward[row]))
    scene = voted.scene(row)
    verdicts = Verdicts(golds={scene.query: "8"})
    recalled = recalled_for(scene, voted.snapshot, verdicts, lambda asked: [0.25 for _ in asked])
    assert recalled is not None
    explained = explain(scene, Silent(), recalled)
    (verdict,) = of_kind(explained, "remembered verdict")
    (features, *_) = of_kind(explained, "features")
    assert (verdict.node, verdict.id, verdict.label) == (NodeLabel.ANSWER, features.id, 0.25)
    assert (explained.source, explained.judged_by) == ("remembered", "gold")
    assert explained.logit == pytest.approx(logit_of(0.25))
    assert_adds_up(explained)
    assert recalled_for(scene, voted.snapshot, verdicts) is None
