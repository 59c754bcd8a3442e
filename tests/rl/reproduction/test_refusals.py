"""What a plan, a folder or a command may not be is refused with one sentence, before anything is lost."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore_rl.reproduction.command import StepFailed, _answers
from memstore_rl.reproduction.dry_run import dry_run
from memstore_rl.reproduction.plan import read_plan
from memstore_rl.reproduction.run import reproduce
from memstore_rl.reproduction.sources import file_digests, sources_of
from memstore_rl.reproduction.state import check_plan, open_folder
from memstore_rl.reproduction.step import fingerprints
from memstore_rl.reproduction.steps import steps_of, steps_to_redo
from tests.rl.reproduction.conftest import PLAN, WritePlan, do, step

ABLATION = '[[training.ablations]]\nname = "plain"\nof = "memory-20"\n'
MODELS = "[reward_models]\n"
FIRST = '"http://127.0.0.1:9/v1"\n\n[roll'
"""The endpoint of the policy, and not that of the checkpoints."""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[rollouts]", MODELS + "budgets = [0.2, 0.20]\n[rollouts]", "reward_models.budgets names 0.2 twice"),
        ("[rollouts]", MODELS + "seeds = []\n[rollouts]", "reward_models.seeds is empty; name at least one"),
        ("[rollouts]", MODELS + "seed = -1\n[rollouts]", "reward_models.seed is -1: input should be greater"),
        ("[rollouts]", MODELS + 'predictors = ["a", "a"]\n[rollouts]', "reward_models.predictors names a twice"),
        ('["sums.jsonl"]', '"sums.jsonl"', 'queries.in_domain must be a list; write in_domain = ["sums.jsonl"]'),
        ("[[policies]]", "[policies]", "policies must be a list; write [[policies]] in place of [policies]"),
        ("samples = 2", "temperature = inf", "rollouts.temperature is inf: input should be a finite number"),
        ('model = "stub"', 'model = "a\\u0000b"', "policies.0.model has a NUL character"),
        ('model = "stub"', 'model = ""', "policies.0.model is '': string should have at least 1 character"),
        ("[training]", ABLATION * 2 + "[training]", "training has two ablations of the name plain"),
        ('"budget-20"', '"memory-20.0"', "training.runs names a run twice"),
        ("[checkpoints]", ABLATION.replace("memory-20", "oracle") + 'labelled_share = "0.5"\n[checkpoints]',
         "which only runs of mode memory use, and oracle is none"),
        ('name = "stub"', 'name = "lock"', "policies.0.name is lock, which names something else in the folder"),
        ('name = "stub"', 'name = "Plan.json"', "policies.0.name is Plan.json, which names something else"),
        ("[checkpoints]", ABLATION.replace("plain", "predictors-20") + "[checkpoints]", "is predictors-20, which"),
        ('name = "stub"', f'name = "{"a" * 101}"', "policies.0.name has 101 characters"),
        ("[rollouts]", '[[policies]]\nname = "Stub"\nmodel = "b"\nendpoint = "http://a"\n[rollouts]',
         "two policies have the same name"),
        (FIRST, '"127.0.0.1:9/v1"\n\n[roll', "policies.0 has the endpoint '127.0.0.1:9/v1', "),
        (FIRST, '"http://a:9x/v1"\n\n[roll', "which is no address; write http://HOST:PORT/v1"),
        (FIRST, '"http://a:{port}"\nserve = "s --port 1"\n\n[roll', "needs serve with {port}"),
        (FIRST, '"http://a/{prt}"\n\n[roll', "policies.endpoint has the placeholder {prt}"),
    ],
)  # fmt: skip
def test_a_plan_that_could_not_be_done_is_refused(write_plan: WritePlan, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        read_plan(write_plan(PLAN, (old, new)))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_encoding_of_a_plan(tmp_path: Path, write_plan: WritePlan) -> None:
    path = write_plan()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_plan(path).plan.rollouts.samples == 2
    path.write_bytes(path.read_text("utf-8-sig").encode("utf-16"))
    with pytest.raises(InputError, match="is not UTF-8 .* save it as UTF-8"):
        read_plan(path)


def test_a_command_that_writes_nothing_has_failed(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="the step a ended without an error and has not written checkpoint"):
        do(tmp_path / "run", step("a", "true", outputs=("checkpoint",)))
    assert do(tmp_path / "run", step("a", "mkdir checkpoint", outputs=("checkpoint",))).done == ["a"]


@pytest.mark.parametrize("command", ["(echo done > out)", "! false", "{ echo done; } > out", "A=1 env > out"])
def test_commands_of_the_shell_run(tmp_path: Path, command: str) -> None:
    assert do(tmp_path / "run", step("a", command)).complete


def test_the_data_of_another_project_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "oracle").write_text("mine")
    (tmp_path / "src").mkdir()
    with pytest.raises(InputError, match="holds something else; name a new --folder"), open_folder(tmp_path, ["stub"]):
        pass
    (tmp_path / "src").rename(tmp_path / "stub")
    with open_folder(tmp_path, ["stub"]) as place:
        assert place.path == tmp_path


@pytest.mark.parametrize("name", ["a" * 300, "file/run", "circle/run"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, write_plan: WritePlan, name: str) -> None:
    file = read_plan(write_plan())
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="cannot write .*; name another --folder"):
        reproduce(file, tmp_path / name)
    with pytest.raises(InputError, match="cannot read .*; name another --folder"):
        dry_run(file, tmp_path / name)


def test_a_refused_redo_removes_nothing_and_an_accepted_one_may_change_its_step(
    tmp_path: Path, write_plan: WritePlan
) -> None:
    folder = tmp_path / "run"
    file = read_plan(write_plan())
    sources = sources_of(file)
    steps = {each.name: each for each in steps_of(file, sources, folder)}
    marks = fingerprints(steps.values())
    with open_folder(folder) as place:
        for name in ("stub/rollouts", "stub/start/test"):
            place.begin(steps[name])
            (folder / steps[name].outputs[0]).write_text("{}\n")
            place.finish(steps[name], marks[name], 1.0)
        document, _ = check_plan(folder, file.plan, file_digests(file, sources.all), [*steps.values()], marks)
        place.write("plan.json", json.dumps(document))
    changed = read_plan(write_plan(PLAN, ("samples = 2", "samples = 4")))
    with pytest.raises(InputError, match="rollouts.samples was 2 and is 4"):
        reproduce(changed, folder, redo=["stub/start/test"])
    assert (folder / "stub" / "start" / "test.jsonl").exists()
    again = steps_of(changed, sources, folder)
    document, _ = check_plan(
        folder,
        changed.plan,
        file_digests(changed, sources.all),
        again,
        fingerprints(again),
        steps_to_redo(again, ["stub/rollouts"]),
    )
    assert document["rollouts"]["samples"] == 4


def test_a_dry_run_counts_what_is_to_be_done_again(tmp_path: Path, write_plan: WritePlan) -> None:
    folder, file = tmp_path / "run", read_plan(write_plan())
    steps = {each.name: each for each in steps_of(file, sources_of(file), folder)}
    with open_folder(folder) as place:
        place.finish(steps["stub/rollouts"], fingerprints(steps.values())["stub/rollouts"], 1.0)

    def done(*redo: str) -> list[str]:
        return [each["name"] for each in dry_run(file, folder, redo=redo)["steps"] if each["done"]]

    assert (done(), done("stub/rollouts")) == (["stub/rollouts"], [])
    with pytest.raises(InputError, match="did you mean stub/rollouts"):
        done("stub/rollout")


def test_a_server_that_does_not_speak_http_is_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert _answers(f"http://127.0.0.1:{server.getsockname()[1]}/v1/models")
        thread.join()
