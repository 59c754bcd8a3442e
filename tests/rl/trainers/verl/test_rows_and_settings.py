"""Rows and settings of the verl hooks, and the batch function for verl 0.7.0 and earlier."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn

from memstore.errors import InputError
from memstore.testing.servers.ports import free_port
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.service.app import make_app
from memstore_rl.service.client import ServiceGone
from memstore_rl.service.service import RewardService
from memstore_rl.trainers.unscored import Unscored, complete_rewards
from memstore_rl.trainers.verl.batch import compute_score_batch
from memstore_rl.trainers.verl.reply import EXTRA_KEYS, reply
from memstore_rl.trainers.verl.rows import is_training, query_of
from memstore_rl.trainers.verl.scorers import ServiceScorer
from memstore_rl.trainers.verl.settings import hook_settings, parse_settings, rollouts_in_flight, run_name
from memstore_rl.trainers.verl.token import read_token

USER = [{"role": "system", "content": "Think."}, {"role": "user", "content": "what is 2 + 3 ?"}]


def reward(value: float | None, **changes: Any) -> Reward:
    fields: dict[str, Any] = {"source": "predicted", "probability": value, "reason": None}
    if value is None:
        fields = {"source": "unscored", "probability": None, "reason": "the gold cannot be read"}
    return Reward(value, group_size=2, short=False, model=None, known=None, latency_s=0.1, **{**fields, **changes})


def test_row_becomes_a_query_with_its_gold() -> None:
    extra = {"split": "train", "key": "q1", "domain": "math"}
    assert query_of(USER, "sums", {"ground_truth": "5"}, extra) == RewardQuery(
        "what is 2 + 3 ?", "sums", "q1", "math", "5"
    )
    blank = query_of(USER, "sums", {"ground_truth": ""}, {"split": "train", "key": "", "domain": "poetry"})
    assert blank == RewardQuery("what is 2 + 3 ?", "sums", None, None, None)
    assert not blank.labelled


@pytest.mark.parametrize("prompt", [None, [], [{"role": "user", "content": ""}], [{"role": "system", "content": "x"}]])
def test_row_without_text_is_rejected(prompt: Any) -> None:
    with pytest.raises(InputError, match="the row 7 of sums has no user message with text in its prompt"):
        query_of(prompt, "sums", {}, {"index": 7})


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, True),  # not of `memstore verl data`
        ({"labelled": True, "remember": True}, True),
        ({"labelled": False, "remember": True}, True),  # the source has no label to withhold
        ({"labelled": False, "remember": False}, False),
        ({"labelled": False}, False),  # written before the memory remembered
        ({"labelled": True}, True),
    ],
)
def test_a_row_whose_label_is_withheld_remembers_nothing(extra: dict[str, bool], expected: bool) -> None:
    assert query_of(USER, "sums", {}, extra).remember == expected


def test_only_the_train_split_is_for_training() -> None:
    assert [is_training({"split": split}) for split in ("train", "validation", "test")] == [True, False, False]
    with pytest.raises(InputError, match=r"no extra_info\.split"):
        is_training({})


def test_reply_has_fixed_keys() -> None:
    extra = reply(reward(0.25))
    assert tuple(extra) == EXTRA_KEYS
    assert (extra["score"], extra["source"], extra["from_model"]) == (0.25, "predicted", 1.0)
    assert (extra["from_ground_truth"], extra["probability"], extra["group_short"]) == (0.0, 0.25, 0.0)
    assert (extra["group_silent"], reply(reward(0.25, silent=True))["group_silent"]) == (0.0, 1.0)


def test_reply_of_a_remembered_reward() -> None:
    extra = reply(reward(1.0, source="remembered", judged_by="person"))
    assert (extra["source"], extra["from_memory"], extra["from_model"], extra["probability"]) == (
        "remembered", 1.0, 0.0, 1.0,
    )  # fmt: skip


def test_unscored_rollout_fails_or_gets_the_mean() -> None:
    rewards = [reward(0.5), reward(None), reward(1.0)]
    with pytest.raises(Unscored, match=r"1 of 3 rollouts .* \(the gold cannot be read\)"):
        complete_rewards(rewards, "fail")
    filled = complete_rewards(rewards, "mean")
    assert [item.value for item in filled] == [0.5, 0.75, 1.0]
    assert filled[1].source == "unscored"
    with pytest.raises(Unscored, match="2 of 2"):
        complete_rewards([reward(None)] * 2, "mean")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "memstore.mode=memory needs memstore.memory or memstore.endpoint"),
        ({"memory": "m", "endpoint": "e"}, "set memstore.memory or memstore.endpoint, not both"),
        ({"endpoint": "e", "model": "m1"}, "memstore.model cannot be combined with memstore.endpoint"),
        ({"endpoint": "127.0.0.1:8731"}, "memstore.endpoint=127.0.0.1:8731 is not an address; use one like http://"),
        ({"memory": "m", "token_file": "t"}, "memstore.token_file needs memstore.endpoint"),
        ({"memory": "m", "modes": "x"}, "memstore.modes is not a setting of memstore; its settings are memory"),
        ({"endpoint": "http://e", "residual_weight": 4}, "memstore.residual_weight cannot be combined"),
        ({"memory": "m", "residual_weight": 0}, "memstore.residual_weight cannot be 0"),
        ({"memory": "m", "mode": "hybrid"}, "memstore.mode cannot be 'hybrid'"),
    ],
)
def test_invalid_settings_are_one_sentence(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_settings(values)
    assert "\n" not in str(error.value)


def test_configuration_without_the_block_names_the_command(verl_config: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="memstore verl config"):
        hook_settings(verl_config())


MEAN_ONLY = ("algorithm.adv_estimator=grpo", "algorithm.norm_adv_by_std_in_grpo=False")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (MEAN_ONLY, "residual"),
        ((*MEAN_ONLY, "+memstore.shaping=shrunk"), "shrunk"),
        (("algorithm.adv_estimator=grpo",), "probability"),
        (("algorithm.adv_estimator=gae", "algorithm.norm_adv_by_std_in_grpo=False"), "probability"),
    ],
)
def test_residual_is_the_default_where_verl_subtracts_only_the_mean(
    verl_config: Callable[..., Any], overrides: tuple[str, ...], expected: str
) -> None:
    assert hook_settings(verl_config("+memstore.memory=m", *overrides)).shaping == expected


def test_a_service_has_its_own_shaping(verl_config: Callable[..., Any]) -> None:
    settings = hook_settings(verl_config("+memstore.endpoint=http://127.0.0.1:1", *MEAN_ONLY))
    assert (settings.shaping, settings.mean_only) == (None, True)
    assert not hook_settings(verl_config("+memstore.endpoint=http://127.0.0.1:1")).mean_only


@pytest.mark.parametrize(
    "overrides",
    [
        ("algorithm.adv_estimator=grpo",),
        ("algorithm.adv_estimator=gae", "algorithm.norm_adv_by_std_in_grpo=False"),
    ],
)
def test_residual_is_refused_where_verl_divides_by_the_deviation(
    verl_config: Callable[..., Any], overrides: tuple[str, ...]
) -> None:
    config = verl_config("+memstore.memory=m", "+memstore.shaping=residual", *overrides)
    with pytest.raises(InputError, match=r"does not divide .* set algorithm\.adv_estimator=grpo and .*=False") as error:
        hook_settings(config)
    assert "\n" not in str(error.value)


def test_rollouts_in_flight_and_run_name(verl_config: Callable[..., Any]) -> None:
    batch = ("data.train_batch_size=100", "actor_rollout_ref.rollout.n=8", "+memstore.memory=m")
    assert rollouts_in_flight(verl_config(*batch)) == 800
    ahead = ("trainer.v1.trainer_mode=colocate_async", "trainer.v1.colocate_async.num_warmup_batches=2")
    assert rollouts_in_flight(verl_config(*batch, *ahead)) == 2400
    config = verl_config(*batch, "trainer.project_name=p", "trainer.experiment_name=e")
    assert run_name(config, hook_settings(config)) == "p/e"


@contextlib.contextmanager
def serving(port: int = 0, info: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Run a reward service with ground truth only."""
    with GroupScorer.open(mode="budget") as scorer, contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", port)))
        app = make_app(RewardService(scorer, None), info=lambda: info or {})
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(200)


@pytest.fixture
def service() -> Iterator[str]:
    with serving() as endpoint:
        yield endpoint


GROUP = Group(RewardQuery("what is 2 + 3 ?", domain="math", gold="5"), [Rollout(response="5"), Rollout(response="6")])


def scorer_of(endpoint: str, **settings: Any) -> ServiceScorer:
    return ServiceScorer(parse_settings({"endpoint": endpoint, "mode": "budget", "deadline_s": 0.3, **settings}))


def test_missing_service_fails_by_default() -> None:
    with pytest.raises(ServiceGone, match="did not answer within 0.3 s"):
        asyncio.run(scorer_of("http://127.0.0.1:9").score_group(GROUP))


def test_missing_service_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()

    async def run() -> list[Reward]:
        scoring = asyncio.create_task(scorer_of(f"http://127.0.0.1:{port}", when_gone="wait").score_group(GROUP))
        while "the training waits for it" not in caplog.text:
            await asyncio.sleep(0.05)
        with serving(port):
            return await scoring

    assert [reward.value for reward in asyncio.run(run())] == [1.0, 0.0]


def test_token_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n", encoding="utf-8")
    assert read_token(str(tmp_path / "token")) == "secret"
    assert read_token(None) is None
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_token(str(tmp_path / "none"))


def batch_arguments(rows: Path, *, n: int) -> dict[str, Any]:
    """Return three rows of a file with n rollouts each, as the `batch` manager passes them; every other is right."""
    table = pq.read_table(rows).slice(0, 3).to_pylist()
    repeated = [row for row in table for _ in range(n)]
    golds = [row["reward_model"]["ground_truth"] for row in repeated]
    return {
        "data_sources": [row["data_source"] for row in repeated],
        "solution_strs": [f"\\boxed{{{int(gold) + index % 2}}}" for index, gold in enumerate(golds)],
        "ground_truths": golds,
        "extra_infos": [row["extra_info"] for row in repeated],
        "files": [str(rows)],
        "n": n,
        "mode": "oracle",
    }


def test_batch_is_scored_by_the_service(service: str, verl_rows: Path) -> None:
    scored = compute_score_batch(**batch_arguments(verl_rows / "train_oracle.parquet", n=4), endpoint=service)
    assert [extra["score"] for extra in scored] == [1.0, 0.0] * 6
    assert {tuple(extra) for extra in scored} == {EXTRA_KEYS}
    assert {(extra["group_size"], extra["group_short"]) for extra in scored} == {(4.0, 0.0)}


def test_validation_rows_get_ground_truth(service: str, verl_rows: Path) -> None:
    arguments = {**batch_arguments(verl_rows / "validation.parquet", n=1), "n": 4, "mode": "budget"}
    assert [extra["source"] for extra in compute_score_batch(**arguments, endpoint=service)] == ["ground_truth"] * 3


def test_incomplete_group_is_rejected(service: str, verl_rows: Path) -> None:
    arguments = {**batch_arguments(verl_rows / "train_oracle.parquet", n=1), "n": 4}
    with pytest.raises(InputError, match=r"1 of the 4 rollouts of a group; set actor_rollout_ref.rollout.mode=sync"):
        compute_score_batch(**arguments, endpoint=service)


def test_query_of_another_file_is_an_error(service: str, verl_rows: Path) -> None:
    arguments = {
        **batch_arguments(verl_rows / "train_oracle.parquet", n=4),
        "files": [str(verl_rows / "validation.parquet")],
    }
    with pytest.raises(InputError, match="is in none of the files"):
        compute_score_batch(**arguments, endpoint=service)


def test_missing_service_ends_the_batch_with_one_sentence(verl_rows: Path) -> None:
    arguments = batch_arguments(verl_rows / "train_oracle.parquet", n=4)
    with pytest.raises(ServiceGone, match="did not answer within 0.2 s") as error:
        compute_score_batch(**arguments, endpoint="http://127.0.0.1:9", deadline_s=0.2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("adv_estimator", "norm_adv_by_std", "refused"),
    [("grpo", True, True), ("gae", False, True), ("grpo", False, False)],
)
def test_batch_refuses_a_shaping_that_verl_divides(
    verl_rows: Path, monkeypatch: pytest.MonkeyPatch, adv_estimator: str, norm_adv_by_std: bool, refused: bool
) -> None:
    arguments = {**batch_arguments(verl_rows / "train_oracle.parquet", n=4), "mode": "memory"}
    verl = {"adv_estimator": adv_estimator, "norm_adv_by_std": norm_adv_by_std}
    with serving(info={"shaping": "residual"}) as endpoint:
        sentence = "shaping residual of the service needs a trainer" if refused else "mode memory needs a reward model"
        with pytest.raises(InputError, match=sentence):
            compute_score_batch(**arguments, **verl, endpoint=endpoint)
        arguments["mode"] = "oracle"
        assert len(compute_score_batch(**arguments, **verl, endpoint=endpoint)) == 12


def test_batch_function_needs_a_service(verl_rows: Path) -> None:
    with pytest.raises(InputError, match="set endpoint to its address"):
        compute_score_batch(**batch_arguments(verl_rows / "train_oracle.parquet", n=4))
