"""Exit codes: usage errors, input errors, interruptions; one sentence on stderr, nothing on stdout."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from memstore_cli import stats as stats_module
from memstore_cli.main import run

WRONG_USE = [
    ((), "Usage"),
    (("stats",), "pass --memory LOCATION, or set MEMSTORE_MEMORY"),
    (("nothing",), "No such command 'nothing'"),
    (("stats", "--nothing"), "No such option: --nothing"),
    (("ingest", "--memory", "m"), "Missing argument 'FILE'; see: memstore ingest --help"),
    (("link", "--k", "0", "--memory", "m"), "--k"),
    (("label", "t-1", "high", "--memory", "m"), "REWARD"),
    (("cypher", "--memory", "m"), "pass one query"),
    (("cypher", "RETURN 1", "--query", "x", "--memory", "m"), "pass one query"),
    (("cypher", "RETURN 1"), "pass --memory LOCATION"),
    (("cypher", "--query", "nothing", "--memory", "m"), "no named query 'nothing'"),
    (("cypher", "RETURN $a", "--param", "a", "--memory", "m"), "is not KEY=VALUE"),
    (("cypher", "RETURN 1", "--format", "xml", "--memory", "m"), "--format"),
    (("train", "--budget", "2", "--memory", "m"), "--budget"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG_USE, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_usage_errors_give_exit_code_2(words: tuple[str, ...], message: str, command: Callable[..., Any]) -> None:
    done = command(*words)
    assert done.code == 2
    assert message in done.err + (done.out if not words else "")
    if words:
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1


def no_memory(folder: Path) -> tuple[Any, ...]:
    return "stats", "--memory", folder / "none"


def not_a_memory(folder: Path) -> tuple[Any, ...]:
    (folder / "other").mkdir()
    (folder / "other" / "thesis.tex").write_text("x")
    (folder / "a.jsonl").write_text('{"query": "1 + 1?", "answer": "2"}\n')
    return "ingest", folder / "a.jsonl", "--memory", folder / "other"


def no_file(folder: Path) -> tuple[Any, ...]:
    return "ingest", folder / "none.jsonl", "--memory", folder / "new"


def no_cypher(memory: Path) -> tuple[Any, ...]:
    return "cypher", "MATCH (", "--memory", memory


BAD_INPUT = [
    (no_memory, "there is no memory at {folder}/none; make one with: memstore ingest"),
    (not_a_memory, "holds no memory"),
    (no_file, "none.jsonl"),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("words", "message"), BAD_INPUT, ids=lambda value: getattr(value, "__name__", ""))
def test_input_errors_are_one_sentence_and_exit_code_1(
    words: Callable[[Path], tuple[Any, ...]], message: str, as_json: bool, tmp_path: Path, command: Callable[..., Any]
) -> None:
    done = command(*words(tmp_path), *(["--json"] if as_json else []))
    assert (done.code, done.out) == (1, "")
    assert message.format(folder=tmp_path) in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


BAD_ARGUMENTS = [
    (("cypher", "MATCH ("), ""),
    (("cypher", "MATCH (n:Nothing) RETURN n"), "Nothing"),
    (
        ("cypher", "RETURN 1 AS a, 2 AS a", "--json"),
        "2 columns of the result are named a; give each its own name with AS",
    ),
    (("label", "t-nothing", "1"), "t-nothing"),
    (("label", "t-nothing", "7"), "between 0 and 1"),
    (("score",), "memstore train"),
    (("train", "--device", "abacus"), "abacus"),
    (("evaluate", "--predictor", "oracle"), "there is no predictor 'oracle'"),
    (("evaluate", "--predictor", "constant", "--dataset", "none"), "none"),
    (("score", "--output", "/nowhere/scores.jsonl"), "/nowhere"),
]


@pytest.mark.parametrize(
    ("words", "message"), BAD_ARGUMENTS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_arguments_are_one_sentence_and_exit_code_1(
    words: tuple[str, ...], message: str, memory: Path, command: Callable[..., Any]
) -> None:
    done = command(*words, "--memory", memory)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


@contextlib.contextmanager
def locked(memory: Path) -> Iterator[int]:
    """Open the memory in another process; yields its pid."""
    program = (
        "import sys\nfrom memstore.memory import Memory\n"
        f"with Memory.open({str(memory)!r}):\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        yield owner.pid
        owner.communicate()


def test_a_locked_memory_is_reported_with_the_owners_pid(memory: Path, command: Callable[..., Any]) -> None:
    with locked(memory) as pid:
        done = command("stats", "--memory", memory, "--json")
    assert (done.code, done.out) == (1, "")
    assert str(pid) in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interruptions_give_one_sentence_and_exit_code_130(sent: signal.Signals, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    words = [str(Path(sys.executable).with_name("memstore")), "ingest", "-", "--memory", str(tmp_path / "memory")]
    with subprocess.Popen(words, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        os.close(reader)
        os.write(writer, b'{"query": "1 + 1", "answer": "2"}\n')
        until = time.monotonic() + 200
        while unread(writer) and time.monotonic() < until:
            time.sleep(0.05)
        running.send_signal(sent)
        out, err = running.communicate(timeout=200)
    os.close(writer)
    assert running.returncode == 130
    assert (out, err) == ("", "interrupted; completed work is saved, run the same command again to resume\n")


def unread(pipe: int) -> int:
    """Number of unread bytes; 0 means that the reader waits for more."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_closed_pipe_prints_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [str(Path(sys.executable).with_name("memstore")), "cypher", "--list", "--json"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "new.jsonl"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        shutil.Error([("from", "to", "[Errno 28] No space left on device: 'to'")]),
        SafetensorError("Error while serializing: IoError(No space left on device (os error 28))"),
    ],
    ids=["disk", "quota", "limit", "copy", "library"],
)
def test_a_full_disk_is_one_sentence(
    error: Exception, memory: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(stats_module, "open_memory", full)
    done = command("stats", "--memory", memory)
    assert done.code == 1
    assert done.err.startswith("error: no space is left on the disk (")
    assert done.err.endswith("; free some and run the same command again\n")
    assert done.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(found: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stats_module, "show_stats", broken)
    with pytest.raises(ZeroDivisionError):
        run(["stats", "--memory", str(memory)])


def test_an_invalid_setting_is_a_usage_error(
    memory: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSTORE_LINK_K", "many")
    done = command("stats", "--memory", memory)
    assert (done.code, done.out) == (2, "")
    assert "MEMSTORE_LINK_K is 'many'" in done.err
