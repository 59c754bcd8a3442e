"""GroupScorer: ground truth for labelled queries, predictions for the rest, and never one in place of the other."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.embedding.cached import embed_cached
from memstore.errors import EmbedderError, InputError
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.types import BoolVector, Domain, FloatMatrix
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.registry import model_folder
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.rewards.shaping import DECIMALS
from memstore_rl.verifiers import Attempt, Verdict, Verifiers


class NoVerifiers(Verifiers):
    """Verifiers that must not be called."""

    def __init__(self) -> None:
        super().__init__({})

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        raise AssertionError(f"unexpected verification of {attempts}")


@pytest.fixture(scope="module")
def scorer(trained_memory: Memory) -> Iterator[GroupScorer]:
    with GroupScorer.open(trained_memory, expected=8) as opened:
        yield opened


def without_latency(rewards: Sequence[Reward]) -> list[Reward]:
    return [replace(reward, latency_s=0.0) for reward in rewards]


def labelled(group: Group, gold: str) -> Group:
    return replace(group, query=replace(group.query, gold=gold))


def test_labelled_groups_get_ground_truth(
    scorer: GroupScorer, groups: list[Group], sample_rows: dict[str, Any]
) -> None:
    rows = list(sample_rows.values())
    sent = [labelled(group, of_query[0]["gold"]) for group, of_query in zip(groups, rows, strict=True)]
    for rewards, of_query in zip(scorer.score_groups(sent), rows, strict=True):
        assert [reward.value for reward in rewards] == [row["reward"] for row in of_query[:8]]
        assert {(reward.source, reward.probability, reward.model) for reward in rewards} == {
            ("ground_truth", None, None)
        }


def test_unlabelled_groups_are_predicted(scorer: GroupScorer, trained_memory: Memory, groups: list[Group]) -> None:
    model = model_folder(trained_memory).name
    for number, rewards in enumerate(scorer.score_groups(groups)):
        for reward in rewards:
            assert reward.source == "predicted"
            assert reward.value == reward.probability
            assert reward.probability is not None
            assert 0 < reward.probability < 1
            assert reward.model == model
            assert (reward.group_size, reward.short, reward.reason) == (8, False, None)
            assert reward.known == (number < 40)
            assert reward.latency_s > 0


def test_predictions_separate_right_from_wrong(
    scorer: GroupScorer, groups: list[Group], sample_rows: dict[str, Any]
) -> None:
    truth = np.array([[row["reward"] for row in rows[:8]] for rows in sample_rows.values()])
    scored = np.array([[reward.value for reward in rewards] for rewards in scorer.score_groups(groups)])
    assert scored[truth == 1].mean() > scored[truth == 0].mean() + 0.2


def test_a_group_that_declines_gets_the_mean_label_and_the_log_says_so(
    scorer: GroupScorer, caplog: pytest.LogCaptureFixture
) -> None:
    assert scorer.model is not None
    query, mean = RewardQuery("Which number is it?", domain="math"), scorer.model.prior
    assert 0.05 < mean < 0.95
    with caplog.at_level(logging.WARNING):
        rewards = scorer.score_group(query, [Rollout(response="I don't know.", run="new", step=1)] * 8)
        one_answers = [Rollout(response="I don't know.")] * 7 + [Rollout(response="#### 7")]
        others = scorer.score_group(query, one_answers) + scorer.score_group(query, one_answers[7:] * 8)
    assert {reward.value for reward in rewards} == {reward.probability for reward in rewards} == {round(mean, DECIMALS)}
    assert all("decline to answer" in (reward.reason or "") for reward in rewards)
    assert not any("decline" in (reward.reason or "") for reward in others)
    assert sum("decline to answer" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("gold", [None, "", "  \n\t"])
def test_blank_gold_is_not_verified(trained_memory: Memory, groups: list[Group], gold: str | None) -> None:
    # The memory holds gold answers and rewards of these queries, which must not be used.
    with GroupScorer.open(trained_memory, verifiers=NoVerifiers()) as scorer:
        rewards = scorer.score_group(replace(groups[0].query, gold=gold), groups[0].rollouts)
    assert {reward.source for reward in rewards} == {"predicted"}


def test_rollout_with_a_withheld_label_is_predicted(scorer: GroupScorer, sample_rows: dict[str, Any]) -> None:
    keys = ("response", "policy", "run", "step", "sample_index", "mean_logprob", "finish_reason")
    for rows in list(sample_rows.values())[:40]:
        first = rows[0]
        query = RewardQuery(
            first["query"], dataset=first["dataset"], key=first["query_id"], domain="math", remember=False
        )
        for reward in scorer.score_group(query, [Rollout(**{key: row[key] for key in keys}) for row in rows[:2]]):
            assert reward.source == "predicted"
            assert reward.value not in (0.0, 1.0)


def test_stored_labels_of_a_query_do_not_affect_its_rewards(
    scorer: GroupScorer, trained_memory: Memory, groups: list[Group]
) -> None:
    """Inverting the stored labels and gold of a query leaves the rewards of its rollouts unchanged."""
    assert scorer.model is not None
    snapshot, model = trained_memory.snapshot(), scorer.model.model
    embed = partial(embed_cached, trained_memory.embedder, trained_memory.cache)
    reward, query_of = rewards_of(snapshot), query_of_thinkings(snapshot)

    def rewards_with_inverted(inverted: BoolVector) -> list[list[Reward]]:
        """Score on a memory in which the labels of some queries are inverted."""
        columns = snapshot.thinkings.column_names, snapshot.queries.column_names
        labels, golds = pa.array(np.where(inverted, 1 - reward, reward)), pa.array(["999"] * len(snapshot.queries))
        altered = replace(
            snapshot,
            thinkings=snapshot.thinkings.set_column(columns[0].index("reward"), "reward", labels),
            queries=snapshot.queries.set_column(columns[1].index("gold"), "gold", golds),
        )
        with GroupScorer(MemoryModel(model, altered, embed), expected=8) as other:
            return [without_latency(rewards) for rewards in other.score_groups(groups[:40])]

    before = [without_latency(rewards) for rewards in scorer.score_groups(groups[:40])]
    rows = snapshot.queries["id"].to_pylist()
    for number in range(0, 40, 4):
        query = query_id(groups[number].query.text)
        inverted = rewards_with_inverted(query_of == rows.index(query))[number]
        assert inverted == before[number]
        assert {reward.source for reward in inverted} == {"predicted"}


def test_group_is_scored_alike_alone_and_in_a_batch(scorer: GroupScorer, groups: list[Group]) -> None:
    together = scorer.score_groups(groups)
    for group, rewards in list(zip(groups, together, strict=True))[::7]:
        assert without_latency(scorer.score_group(group.query, group.rollouts)) == without_latency(rewards)


def test_groups_of_one_query_are_independent(scorer: GroupScorer, groups: list[Group]) -> None:
    others = replace(groups[0], rollouts=[Rollout(response=f"It is {n}.\n#### {n}", run="s") for n in range(8)])
    alone = [without_latency(scorer.score_group(group.query, group.rollouts)) for group in (groups[0], others)]
    assert [without_latency(rewards) for rewards in scorer.score_groups([groups[0], others, groups[0]])] == [
        *alone,
        alone[0],
    ]


def test_rewards_keep_the_order_of_rollouts(scorer: GroupScorer, groups: list[Group]) -> None:
    group = groups[1]
    forward = [reward.value for reward in scorer.score_group(group.query, group.rollouts)]
    backward = [reward.value for reward in scorer.score_group(group.query, group.rollouts[::-1])]
    assert len(set(forward)) > 1
    assert backward == pytest.approx(forward[::-1], abs=5e-3)


@pytest.mark.parametrize("mode", ["oracle", "budget"])
def test_without_a_model_unlabelled_rollouts_are_unscored(groups: list[Group], mode: Any) -> None:
    with GroupScorer.open(mode=mode) as scorer:
        first, second = scorer.score_groups([groups[0], labelled(groups[1], "1")])
    assert {(reward.value, reward.source, reward.known) for reward in first} == {(None, "unscored", None)}
    assert all(reward.reason for reward in first)
    assert {reward.source for reward in second} == {"ground_truth"}


def test_group_can_override_the_mode(scorer: GroupScorer, groups: list[Group]) -> None:
    validation = [replace(groups[0], mode="oracle"), replace(labelled(groups[1], "1"), mode="oracle"), groups[0]]
    sources = [{reward.source for reward in rewards} for rewards in scorer.score_groups(validation)]
    assert sources == [{"unscored"}, {"ground_truth"}, {"predicted"}]


def test_unverifiable_group_is_predicted_with_a_reason(scorer: GroupScorer, groups: list[Group]) -> None:
    unreadable = labelled(groups[0], "\\frac{")
    for reward in scorer.score_group(unreadable.query, unreadable.rollouts):
        assert reward.source == "predicted"
        assert reward.reason is not None
        assert "cannot be read" in reward.reason
    for reward in scorer.score_groups([replace(unreadable, mode="oracle")])[0]:
        assert (reward.value, reward.source) == (None, "unscored")
        assert reward.reason is not None
        assert "cannot be read" in reward.reason


def test_programs_are_unscored_without_a_code_verifier() -> None:
    query = RewardQuery("def one():\n    '''Give 1.'''\n", domain="code", gold="assert one() == 1")
    with GroupScorer.open(mode="oracle") as scorer:
        (reward,) = scorer.score_group(query, [Rollout(answer="def one():\n    return 1\n")])
    assert (reward.value, reward.source) == (None, "unscored")
    assert reward.reason is not None
    assert "not run" in reward.reason


def test_response_without_answer_is_wrong(scorer: GroupScorer) -> None:
    (reward,) = scorer.score_group(RewardQuery("What is 1 + 1?", domain="math", gold="2"), [Rollout(response="Hm.")])
    assert (reward.value, reward.source) == (0.0, "ground_truth")


def test_flat_group_gets_one_reward_and_a_reason(trained_memory: Memory, groups: list[Group]) -> None:
    with GroupScorer.open(trained_memory) as default_scorer, GroupScorer.open(trained_memory, min_spread=0.3) as scorer:
        flat = 0
        for before, after in zip(default_scorer.score_groups(groups), scorer.score_groups(groups), strict=True):
            scored = [reward.probability for reward in before if reward.probability is not None]
            assert [reward.probability for reward in after] == scored
            if max(scored) - min(scored) < 0.3:
                flat += 1
                assert [reward.value for reward in after] == pytest.approx([np.mean(scored)] * 8)
                assert all("same reward" in (reward.reason or "") for reward in after)
            else:
                assert without_latency(after) == without_latency(before)
    assert 0 < flat < len(groups)


def test_residual_rewards_what_the_model_knows_beyond_the_votes(trained_memory: Memory, groups: list[Group]) -> None:
    with (
        GroupScorer.open(trained_memory) as default_scorer,
        GroupScorer.open(trained_memory, shaping="residual", residual_weight=4) as scorer,
    ):
        scored = list(zip(default_scorer.score_groups(groups), scorer.score_groups(groups), strict=True))
    silent = 0
    for before, after in scored:
        assert [one.probability for one in after] == [one.probability for one in before]
        assert [one.by_votes for one in after] == [one.by_votes for one in before]
        expected = [4 * ((one.probability or 0) - (one.by_votes or 0)) for one in after]
        assert [one.value for one in after] == pytest.approx(expected, abs=2e-5)
        assert not any(one.silent for one in before)
        assert len({(one.silent, one.reason) for one in after}) == 1
        silent += after[0].silent
        if after[0].silent:
            assert len({one.value for one in after}) == 1
            assert "beyond the votes is the same up to min_spread" in (after[0].reason or "")
    unanimous = [before for before, _ in scored if len({one.probability for one in before}) == 1]
    assert 0 < len(unanimous) <= silent < len(scored)


def test_residual_leaves_judged_groups_as_they_are(
    trained_memory: Memory, groups: list[Group], sample_rows: dict[str, Any]
) -> None:
    rows = next(iter(sample_rows.values()))
    with GroupScorer.open(trained_memory, shaping="residual", residual_weight=4) as scorer:
        rewards = scorer.score_group(labelled(groups[0], rows[0]["gold"]).query, groups[0].rollouts)
    assert [reward.value for reward in rewards] == [row["reward"] for row in rows[:8]]
    assert {(reward.source, reward.by_votes, reward.silent) for reward in rewards} == {("ground_truth", None, False)}


def test_group_that_declines_is_silent_under_residual(trained_memory: Memory) -> None:
    with GroupScorer.open(trained_memory, shaping="residual") as scorer:
        query = RewardQuery("Which number is it?", domain="math")
        rewards = scorer.score_group(query, [Rollout(response="I don't know."), Rollout(response="I do not know.")])
    assert [(reward.value, reward.silent) for reward in rewards] == [(0.0, True)] * 2
    assert all("decline to answer" in (reward.reason or "") for reward in rewards)


def test_short_groups_are_flagged(scorer: GroupScorer, groups: list[Group]) -> None:
    group = groups[0]
    three = replace(group, rollouts=group.rollouts[:3])
    sent = [group, three, replace(three, expected=3), replace(group, expected=9)]
    flags = [{(reward.short, reward.group_size) for reward in rewards} for rewards in scorer.score_groups(sent)]
    assert flags == [{(False, 8)}, {(True, 3)}, {(False, 3)}, {(True, 8)}]


def test_single_rollout_is_a_group(scorer: GroupScorer, groups: list[Group]) -> None:
    (reward,) = scorer.score_group(groups[0].query, groups[0].rollouts[:1])
    assert reward.source == "predicted"
    assert reward.short


@pytest.mark.parametrize("text", ["", "\0", "a\ud800b #### 3", "#### " + "9" * 5000, "\\boxed{" * 300, "9^{9^{9}}"])
@pytest.mark.parametrize("gold", ["", "3"])
def test_any_response_is_scored(scorer: GroupScorer, groups: list[Group], text: str, gold: str) -> None:
    query = replace(groups[0].query, gold=gold)
    rewards = scorer.score_group(query, [Rollout(response=text), *groups[0].rollouts[1:]])
    assert rewards[0].source == ("ground_truth" if gold else "predicted")
    assert rewards[0].value is not None


@pytest.mark.parametrize(
    ("query", "rollouts", "message"),
    [
        (RewardQuery("What?"), [], "has no rollouts"),
        (RewardQuery(" "), [Rollout(response="1")], "query is empty"),
        (
            RewardQuery("What?"),
            [Rollout(response="1"), Rollout(thinking="1")],
            "rollout 1: answer and response are both missing",
        ),
        (RewardQuery("What?"), [Rollout(response="1", step=1.5)], "step is 1.5"),  # type: ignore[arg-type]
        (RewardQuery("What?", domain="maths"), [Rollout(response="1")], "domain is 'maths'"),  # type: ignore[arg-type]
    ],
)
def test_invalid_input_names_the_group(query: RewardQuery, rollouts: list[Rollout], message: str) -> None:
    with GroupScorer.open(mode="budget") as scorer, pytest.raises(InputError, match=message) as error:
        scorer.score_groups([Group(RewardQuery("Fine?"), [Rollout(response="1")]), Group(query, rollouts)])
    assert "group 1" in str(error.value)


def test_invalid_settings_are_rejected() -> None:
    for settings, message in (
        ({"mode": "half"}, "no mode 'half'"),
        ({"mode": "memory"}, "needs a reward model"),
        ({"mode": "oracle", "shaping": "round"}, "no shaping 'round'"),
        ({"mode": "oracle", "expected": 0}, "expected"),
        ({"mode": "oracle", "min_spread": 1.5}, "between 0 and 1"),
        ({"mode": "oracle", "shaping": "residual", "residual_weight": -1.0}, "above 0"),
    ):
        with pytest.raises(InputError, match=message):
            GroupScorer(None, **settings)  # type: ignore[arg-type]


def test_failure_is_raised(trained_memory: Memory, groups: list[Group]) -> None:
    def broken(texts: Sequence[str]) -> FloatMatrix:
        raise EmbedderError("the embedder is gone")

    with GroupScorer.open(trained_memory, embed=broken) as scorer, pytest.raises(EmbedderError, match="is gone"):
        scorer.score_groups(groups)


def test_scoring_does_not_change_the_memory(scorer: GroupScorer, trained_memory: Memory, groups: list[Group]) -> None:
    before = trained_memory.snapshot().manifest.id
    scorer.score_groups(groups)
    assert trained_memory.snapshot().manifest.id == before


def test_threads_get_the_same_rewards(scorer: GroupScorer, groups: list[Group]) -> None:
    mixed = [labelled(group, "\\frac{63}{1}") if number % 3 == 0 else group for number, group in enumerate(groups[:24])]
    alone = [without_latency(rewards) for rewards in scorer.score_groups(mixed)]
    with ThreadPoolExecutor(6) as pool:
        scored = list(pool.map(lambda group: without_latency(scorer.score_groups([group])[0]), mixed))
    assert scored == alone


def test_domain_of_the_memory_counts_and_a_warning_is_logged_once(
    scorer: GroupScorer, groups: list[Group], caplog: pytest.LogCaptureFixture
) -> None:
    other = [replace(group, query=replace(group.query, domain="qa")) for group in groups[:3]]
    silent = [replace(group, query=replace(group.query, domain=None)) for group in groups[:3]]
    with caplog.at_level("WARNING", logger="memstore_rl.rewards.tasks"):
        sent = scorer.score_groups(other)
    assert [*map(without_latency, sent)] == [*map(without_latency, scorer.score_groups(silent))]
    assert [*map(without_latency, sent)] == [*map(without_latency, scorer.score_groups(groups[:3]))]
    (warning,) = (record.getMessage() for record in caplog.records if record.name == "memstore_rl.rewards.tasks")
    assert re.match(r"'arithmetic/\d+' was sent with domain qa, but the memory has it with domain math", warning)
