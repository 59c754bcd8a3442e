"""Steps are done once, and resumed after failures, kills and interruptions, with one sentence each."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from memstore.errors import InputError, LockedError
from memstore_rl.reproduction import run
from memstore_rl.reproduction.command import StepFailed
from memstore_rl.reproduction.plan import read_plan
from memstore_rl.reproduction.run import reproduce, steps_to_redo
from memstore_rl.reproduction.sources import file_digests, sources_of
from memstore_rl.reproduction.state import check_plan, open_folder
from memstore_rl.reproduction.step import Server, fingerprints
from memstore_rl.reproduction.steps import steps_of
from memstore_rl.testing.openai_stub import Stub, serving
from tests.rl.reproduction.conftest import PLAN, WritePlan, do, step

APPEND = "echo done >> count"


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    first, second = step("a", APPEND), step("b", APPEND, needs=("a",))
    assert do(tmp_path / "run", first, second).done == ["a", "b"]
    again = do(tmp_path / "run", first, second)
    assert (again.done, again.earlier, again.complete) == ([], ["a", "b"], True)
    assert (tmp_path / "run" / "count").read_text() == "done\ndone\n"


def test_a_step_is_done_again_with_all_that_need_it(tmp_path: Path) -> None:
    steps = (
        step("a", "echo a >> log; touch out", outputs=("out",), scratch=("work",), resumes=True),
        step("b", "test ! -e work && echo b >> log", needs=("a",)),
        step("c", "echo c >> log"),
    )
    folder = tmp_path / "run"
    do(folder, *steps)
    (folder / "work").mkdir()
    assert [each.name for each in steps_to_redo(steps, ["a"])] == ["a", "b"]
    with open_folder(folder) as place:
        for each in steps_to_redo(steps, ["a"]):
            place.forget(each)
    assert not (folder / "out").exists()
    assert do(folder, *steps).done == ["a", "b"]
    assert (folder / "log").read_text().split() == ["a", "b", "c", "a", "b"]
    with pytest.raises(InputError, match="the plan has no step 'stub/memry'; did you mean stub/memory"):
        steps_to_redo([step("stub/memory", "true")], ["stub/memry"])


def test_a_failed_step_says_why_and_is_done_by_the_next_run(tmp_path: Path) -> None:
    command = "echo 'error: no bench; bring one.' >&2; test -e bench && touch half"
    failing = step("b", command, needs=("a",), outputs=("half",))
    with pytest.raises(StepFailed) as raised:
        do(tmp_path / "run", step("a", APPEND), failing)
    log = tmp_path / "run" / "logs" / "b.log"
    assert str(raised.value) == (
        f"the step b failed: no bench; bring one (log: {log}); what is done is kept, and the same command resumes"
    )
    assert "no bench" in log.read_text()
    (tmp_path / "run" / "bench").touch()
    assert do(tmp_path / "run", step("a", APPEND), failing).done == ["b"]


def test_the_rest_of_an_interrupted_step_is_removed_unless_it_resumes(tmp_path: Path) -> None:
    for resumes, expected in ((False, "x\n"), (True, "x\nx\n")):
        folder = tmp_path / str(resumes)
        writing = step("a", "mkdir -p out && echo x >> out/file && test -e ../go", outputs=("out",), resumes=resumes)
        (tmp_path / "go").unlink(missing_ok=True)
        with pytest.raises(StepFailed, match="the step a failed: its command ended with exit code 1"):
            do(folder, writing)
        (tmp_path / "go").touch()
        do(folder, writing)
        assert (folder / "out" / "file").read_text() == expected


def test_without_a_gpu_all_other_steps_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_has_gpu", lambda: False)
    training = step("training", "train", gpu=True, outputs=("model",), brought=("model", "rollouts"))
    test = step("test", "cp model/weights rollouts", needs=("training",), outputs=("rollouts",), resumes=True)
    test = replace(test, brought=("rollouts",), requires=("model",))
    steps = (training, test, step("other", APPEND))
    result = do(tmp_path / "run", *steps)
    assert (result.done, [each.name for each in result.stopped], result.waiting) == (["other"], ["training"], ["test"])
    assert "the step training needs a GPU, and this machine has none; run it in" in result.stop_sentence
    assert not result.complete
    (tmp_path / "run" / "model").mkdir()
    assert do(tmp_path / "run", *steps).done == []
    (tmp_path / "run" / "model" / "weights").write_text("w")
    assert do(tmp_path / "run", *steps).done == ["training", "test"]
    assert (tmp_path / "run" / "rollouts").read_text() == "w"


def test_rollouts_brought_without_a_checkpoint_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_has_gpu", lambda: False)
    training = step("training", "train", gpu=True, outputs=("model",), brought=("model", "rollouts"))
    test = step("test", "false", needs=("training",), outputs=("rollouts",), resumes=True)
    test = replace(test, brought=("rollouts",), requires=("model",))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / "rollouts").write_text("r")
    assert do(tmp_path / "run", training, test).done == ["training", "test"]


SERVER = """
import http.server, os, sys
open("pid", "w").write(str(os.getpid()))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_server_runs_while_its_step_runs(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SERVER)
    server = Server(f"python {tmp_path}/serve.py {{port}}", "http://127.0.0.1:{port}")
    asking = "import urllib.request as u, sys; print(u.urlopen(sys.argv[1]).status)"
    asked = step("a", f"python -c {shlex.quote(asking)} http://127.0.0.1:{{port}}/ > status", server=server)
    do(tmp_path / "run", asked)
    assert (tmp_path / "run" / "status").read_text() == "200\n"
    assert not _runs(int((tmp_path / "run" / "pid").read_text()))


def test_a_server_that_ends_is_one_sentence(tmp_path: Path) -> None:
    server = Server("echo broken >&2; exit 3", "http://127.0.0.1:{port}")
    with pytest.raises(StepFailed, match="the server of the step a ended with exit code 3; its output is in") as raised:
        do(tmp_path / "run", step("a", APPEND, server=server))
    assert "\n" not in str(raised.value)
    assert "broken" in (tmp_path / "run" / "logs" / "a.log").read_text()


def test_another_server_at_its_address_is_not_taken_for_it(tmp_path: Path) -> None:
    with serving(Stub()) as address:
        server = Server("touch started; sleep 60", address)
        with pytest.raises(
            StepFailed, match=f"something else already answers at {address}/models, where the server of"
        ):
            do(tmp_path / "run", step("a", APPEND, server=server))
    assert not (tmp_path / "run" / "started").exists()
    assert not (tmp_path / "run" / "count").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else; name a new --folder"):
        do(tmp_path, step("a", APPEND))
    with pytest.raises(InputError, match="cannot write .*notes.txt"):
        do(tmp_path / "notes.txt", step("a", APPEND))


def test_two_runs_on_one_folder(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path / "run"),
        pytest.raises(LockedError, match=f"another run uses .* \\(process {os.getpid()}, "),
    ):
        do(tmp_path / "run", step("a", APPEND))


RUNNER = """
import sys
from pathlib import Path
from memstore_rl.reproduction.run import Reproduction, do_steps
from memstore_rl.reproduction.state import open_folder
from memstore_rl.reproduction.step import Step
folder, command = Path(sys.argv[1]), sys.argv[2]
steps = [Step("a", "echo done >> count", "a"), Step("b", command, "b", needs=("a",), outputs=("pid",))]
with open_folder(folder) as place:
    do_steps(steps, place, Reproduction(folder, 2), print)
"""


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> str:
    while not (path.exists() and path.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.02)
    return path.read_text().strip()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_end_at_any_time_loses_at_most_the_step_in_progress(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # One program, so that it ends with its parent.
    (tmp_path / "sleep.py").write_text(
        "import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(folder), f"python {tmp_path}/sleep.py"]) as running:
        pid = int(wait_for(folder / "pid", running))
        running.send_signal(number)
        running.wait()
    while _runs(pid):
        time.sleep(0.02)
    done = do(folder, step("a", APPEND), step("b", "echo 1 > pid", needs=("a",), outputs=("pid",)))
    assert (done.earlier, done.done) == (["a"], ["b"])
    assert (folder / "count").read_text() == "done\n"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_full_disk_is_one_sentence_and_nothing_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
    failing = limited + "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + RUNNER
    ran = subprocess.run(
        [sys.executable, "-c", failing, str(folder), "true"], capture_output=True, text=True, check=False
    )
    assert "StoreFullError: no space is left for" in ran.stderr
    assert not list((folder / "steps").glob("*.json"))
    assert not list((folder / "steps").glob(".*"))
    assert do(folder, step("a", APPEND)).done == ["a"]


def test_a_changed_plan_is_noticed(write_plan: WritePlan, tmp_path: Path) -> None:
    def checked(plan: Path) -> list[str]:
        file = read_plan(plan)
        sources = sources_of(file)
        steps = steps_of(file, sources, tmp_path / "run")
        with open_folder(tmp_path / "run") as place:
            document, changes = check_plan(
                place.path, file.plan, file_digests(file, sources.all), steps, fingerprints(steps)
            )
            if not (place.path / "plan.json").exists():
                place.write("plan.json", json.dumps(document))
                by_name = {step.name: step for step in steps}
                place.finish(by_name["stub/rollouts"], fingerprints(steps)["stub/rollouts"], 1.0)
        return changes

    assert checked(write_plan()) == []
    assert checked(write_plan(PLAN, ("memory-20", "memory-30"))) == [
        'training.runs.2 was "memory-20" and is "memory-30"'
    ]
    with pytest.raises(InputError) as raised:
        checked(write_plan(PLAN, ("samples = 2", "samples = 4"), (":9/v1", ":8/v1")))
    assert str(raised.value) == (
        f"the plan has changed since {tmp_path / 'run'} was begun (rollouts.samples was 2 and is 4), and what is done "
        "would be done otherwise (stub/rollouts); restore the plan, name a new --folder, or pass --redo to do these "
        "steps again"
    )


def test_unknown_predictor_is_refused_before_any_step(write_plan: WritePlan, tmp_path: Path) -> None:
    plan = write_plan(PLAN, ("[rollouts]", "[reward_models]\npredictors = ['votes']\n[rollouts]"))
    with pytest.raises(InputError, match="reward_models.predictors has 'votes'; there are constant, vote_share, "):
        reproduce(read_plan(plan), tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run").exists()


def test_unreachable_endpoint_is_one_sentence(write_plan: WritePlan, tmp_path: Path) -> None:
    plan = write_plan(PLAN, ("[rollouts]", "tries = 1\n[rollouts]"), ('{checkpoint}"', '{checkpoint}"\ngpu = false'))
    with pytest.raises(StepFailed) as raised:
        reproduce(read_plan(plan), tmp_path / "run", lambda line: None)
    assert "the step stub/rollouts failed: " in str(raised.value)
    assert "127.0.0.1:9" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "run" / "data" / "memory-20" / "train_memory_20.parquet").exists()
