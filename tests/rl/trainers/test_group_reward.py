"""`memstore_rl.group_reward`: its arguments, its order, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl import group_reward
from memstore_rl.service.client import ServiceError, ServiceGone
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.hook import environment_hook
from memstore_rl.trainers.hook_settings import HookSettings, hook_settings
from memstore_rl.trainers.rows import labelled_query, row_facts
from memstore_rl.trainers.unscored import Unscored

PAGE = Path(__file__).resolve().parents[3] / "docs" / "trainers" / "index.md"
QUERY = "what is 2 + 3 ?"
ANSWERS = ["\\boxed{5}", "\\boxed{6}", "\\boxed{7}", "\\boxed{8}"]


@pytest.fixture(scope="module")
def running() -> Iterator[NotingService]:
    with NotingService() as service:
        yield service


@pytest.fixture
def service(running: NotingService) -> NotingService:
    running.noted.clear()
    return running


def scored(service: NotingService, *arguments: Any, **options: Any) -> Any:
    return group_reward(*arguments, endpoint=service.address, deadline_s=60, **options)


def test_it_imports_no_torch() -> None:
    code = (
        "import sys; from memstore_rl import group_reward; "
        "print([name for name in ('torch', 'pyarrow', 'pandas', 'ladybug', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labelled_group_gets_ground_truth(service: NotingService) -> None:
    found = scored(service, QUERY, ANSWERS, golds="5", datasets="sums", domains="math", policy="p", run="r", step=3)
    assert found.values == [1.0, 0.0, 0.0, 0.0]
    assert [reward.source for reward in found.rewards] == ["ground_truth"] * 4
    assert found.metrics["ground_truth_share"] == 1.0
    [one] = service.noted
    assert (one.group.query.dataset, one.group.query.domain, one.group.query.gold) == ("sums", "math", "5")
    assert {(rollout.policy, rollout.run, rollout.step) for rollout in one.group.rollouts} == {("p", "r", 3)}
    assert one.record


def test_completions_of_a_query_are_numbered_over_all_calls(service: NotingService) -> None:
    query = "a query of its own"
    for groups in (["a", "b", "a", "b"], ["a"] * 4):
        scored(service, query, ANSWERS, groups=groups)
    numbers = [[rollout.sample_index for rollout in one.group.rollouts] for one in service.noted]
    assert numbers == [[0, 1], [2, 3], [4, 5, 6, 7]]


def test_rows_in_a_row_are_groups_of_the_size(service: NotingService) -> None:
    scored(service, [QUERY, QUERY, "what is 1 + 1 ?", "what is 1 + 1 ?"], ANSWERS, group_size=2)
    assert [(one.group.query.text, one.group.expected) for one in service.noted] == [(QUERY, 2), ("what is 1 + 1 ?", 2)]


def test_messages_are_read_as_ingest_reads_them(service: NotingService) -> None:
    prompt = [{"role": "system", "content": "Think."}, {"role": "user", "content": QUERY}]
    scored(service, [prompt], [[{"role": "assistant", "content": "5"}]])
    [one] = service.noted
    assert (one.group.query.text, one.group.rollouts[0].response) == (QUERY, "5")


def test_record_false_is_sent(service: NotingService) -> None:
    scored(service, QUERY, ANSWERS, record=False)
    assert [one.record for one in service.noted] == [False]


def test_unscored_raises_or_gets_the_mean_of_its_group(service: NotingService) -> None:
    for unscored in ("fail", "mean"):  # no rollout of the group is scored
        with pytest.raises(Unscored, match="4 of 4 rollouts of a group have no reward .the query has no gold answer"):
            scored(service, QUERY, ANSWERS, mode="budget", unscored=unscored)


def test_an_evaluation_without_gold_raises(service: NotingService) -> None:
    with pytest.raises(Unscored, match="have no reward"):
        scored(service, QUERY, ANSWERS, evaluation=True, unscored="mean")


REFUSED: list[tuple[tuple[Any, Any], dict[str, Any], str]] = [
    ((QUERY, []), {}, "the batch is empty; pass at least one completion"),
    (([QUERY] * 3, ANSWERS), {}, "queries has 3 entries for 4 completions"),
    ((QUERY, ANSWERS), {"golds": 5}, "golds is a int; pass a list with one entry for each completion"),
    ((QUERY, ANSWERS), {"groups": ["a"]}, "groups has 1 entries for 4 completions"),
    ((QUERY, ANSWERS), {"group_size": 3}, "4 completions are not groups of 3; pass whole groups, or the id of each"),
    ((QUERY, ANSWERS), {"groups": ["a"] * 4, "group_size": 2}, "group 'a' has 4 completions and the group size is 2"),
    (([QUERY] * 2 + ["x"] * 2, ANSWERS), {"groups": ["a"] * 4}, "group 'a' has completions of two queries"),
    (([QUERY] * 2 + ["x"] * 2, ANSWERS), {}, "group 0 has completions of two queries"),
    (([" "] * 4, ANSWERS), {}, "query 0 has no text of a user"),
    ((QUERY, ["5", None]), {}, "completion 1 is a NoneType; pass a text or chat messages"),
    ((QUERY, ANSWERS), {"mode": "guess"}, "MEMSTORE_REWARD_MODE cannot be 'guess'"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), REFUSED)
def test_what_is_not_whole_groups_is_refused(
    arguments: tuple[Any, Any], options: dict[str, Any], message: str, service: NotingService
) -> None:
    with pytest.raises(InputError, match=message):
        scored(service, *arguments, **options)
    assert service.noted == []


def test_residual_rewards_need_a_trainer_that_subtracts_only_the_mean(
    service: NotingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "info", lambda: {"shaping": "residual"})
    with pytest.raises(InputError, match="the service's shaping is residual"):
        scored(service, QUERY, ANSWERS)
    assert len(scored(service, QUERY, ANSWERS, mean_only=True).values) == 4


def test_failures_raise(service: NotingService) -> None:
    with pytest.raises(ServiceGone, match=r"did not answer within 0.2 s"):
        group_reward(QUERY, ANSWERS, endpoint="http://127.0.0.1:9", deadline_s=0.2)
    with pytest.raises(ServiceError, match="failed with status 404: there is no such route"):
        group_reward(QUERY, ANSWERS, endpoint=service.address + "/v2", deadline_s=5)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, service: NotingService) -> None:
    monkeypatch.setenv("MEMSTORE_REWARD_ENDPOINT", service.address)
    monkeypatch.setenv("MEMSTORE_SERVICE_TOKEN", "secret-token")
    assert len(group_reward(QUERY, ANSWERS).values) == 4
    assert environment_hook(group_size=4) is environment_hook(group_size=4)
    assert environment_hook(group_size=4).settings.secret() == "secret-token"
    assert "secret-token" not in repr(environment_hook(group_size=4).settings)
    monkeypatch.setenv("MEMSTORE_REWARD_GROUPSIZE", "4")
    with pytest.raises(InputError, match="MEMSTORE_REWARD_GROUPSIZE is not a setting of the hooks; the settings are"):
        environment_hook()


def test_page_lists_every_setting() -> None:
    variables = {f"MEMSTORE_REWARD_{name.upper()}" for name in HookSettings.model_fields} - {"MEMSTORE_REWARD_TOKEN"}
    assert set(re.findall(r"MEMSTORE_REWARD_[A-Z_]*[A-Z]", PAGE.read_text(encoding="utf-8"))) == variables


def test_an_address_is_needed() -> None:
    with pytest.raises(InputError, match="the hook has no reward service; set MEMSTORE_REWARD_ENDPOINT="):
        hook_settings({}, environment={})


COLUMNS = {
    "data_source": "sums",
    "reward_model": {"style": "rule", "ground_truth": "5"},
    "extra_info": {"split": "train", "key": "q1", "domain": "math", "remember": False},
}


@pytest.mark.parametrize(
    ("label", "metadata"),
    [
        (COLUMNS, None),
        (None, COLUMNS),
        ('{"data_source": "sums", "reward_model": {"ground_truth": "5"}}', COLUMNS["extra_info"]),
        (COLUMNS["reward_model"], {"data_source": "sums", **COLUMNS["extra_info"]}),  # type: ignore[dict-item]
        ("5", {"data_source": "sums", **COLUMNS["extra_info"]}),  # type: ignore[dict-item]
    ],
)
def test_label_and_metadata_are_the_columns_of_the_data(label: object, metadata: object) -> None:
    query = labelled_query(QUERY, label, metadata)
    assert (query.text, query.dataset, query.key, query.domain) == (QUERY, "sums", "q1", "math")
    assert (query.gold, query.remember) == ("5", False)


def test_a_label_that_is_a_json_object_of_the_task_is_a_gold_answer() -> None:
    assert labelled_query(QUERY, '{"a": 1}').gold == '{"a": 1}'
    assert labelled_query(QUERY, "{5}").gold == "{5}"
    assert labelled_query(QUERY).gold is None
    assert row_facts("", {"split": "test"}).extra_info == {"split": "test"}
