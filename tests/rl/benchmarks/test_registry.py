"""Where benchmarks come from: a folder of copies, the library's cache, a hub that refuses or does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore_rl.benchmarks import benchmarks, cached, local_copy, questions


def test_a_copy_is_found_by_either_name(copies: Path) -> None:
    found = {name: local_copy(declared, copies) for name, declared in benchmarks().items()}
    assert found["gsm8k"] == copies / "openai" / "gsm8k"
    assert found["mmlu"] == copies / "mmlu"
    assert None not in found.values()


def test_a_folder_without_a_copy_does_not_fall_back_to_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no copy of gsm8k: neither .*gsm8k nor .*openai/gsm8k exists"):
        questions("gsm8k", folder=tmp_path)


def test_a_copy_that_lacks_a_split(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text('{"question": "1?", "answer": "#### 1"}\n', encoding="utf-8")
    with pytest.raises(InputError, match='cannot read gsm8k from .*gsm8k: Unknown split "test"'):
        questions("gsm8k", folder=tmp_path)


def test_an_empty_copy(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    with pytest.raises(InputError, match="cannot read gsm8k from"):
        questions("gsm8k", folder=tmp_path)


def test_a_copy_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "piqa").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "piqa" / f"{split}.jsonl").write_text('{"goal": "go", "answer": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="piqa uses the column 'label', which its source lacks; it has goal, answer"):
        questions("piqa", folder=tmp_path)


def test_a_changed_copy_is_read_again(tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "humaneval_plus").mkdir(exist_ok=True)
        row = f'{{"task_id": "1", "prompt": "{text}", "entry_point": "f", "test": "def check(candidate): pass"}}\n'
        (tmp_path / "humaneval_plus" / "test.jsonl").write_text(row, encoding="utf-8")
        assert [question.text for question in questions("humaneval_plus", folder=tmp_path)] == [text]


@pytest.mark.parametrize("name", benchmarks())
def test_cached_benchmarks_are_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.json.json import Json

    declared = benchmarks()[name]
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    short = camelcase_to_snakecase(declared.source.split("/")[1])
    options = {"config_name": declared.config, "hash": "0123", "dataset_name": short, "repo_id": declared.source}
    kept = Path(Json(cache_dir=str(tmp_path), **options).cache_dir)
    assert not cached(declared)
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "dataset_info.json").write_text("{}", encoding="utf-8")
    assert [other for other, entry in benchmarks().items() if cached(entry)] == [name]


@contextmanager
def hub(status: int, **headers: str) -> Iterator[str]:
    """A hub on loopback that answers everything alike."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def from_hub(name: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Load a benchmark with the command, in a home of its own: the library reads the hub's address once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MEMSTORE_", "HF_"))}
    command = [str(Path(sys.executable).with_name("memstore")), "datasets", name]
    environment = {**kept, "HF_HOME": str(home), **variables}
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=250)


def test_a_gated_dataset_is_reported(tmp_path: Path) -> None:
    with hub(403, X_Error_Code="GatedRepo") as address:
        done = from_hub("gpqa", tmp_path, HF_ENDPOINT=address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: gpqa is gated: accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa and log in "
        "(`hf auth login`), or pass a folder with a copy of it (--data DIR, with the data in DIR/gpqa)"
    )


def test_a_dataset_missing_on_the_hub_is_reported(tmp_path: Path) -> None:
    with hub(401, X_Error_Code="RepoNotFound") as address:
        done = from_hub("gsm8k", tmp_path, HF_ENDPOINT=address)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: cannot load gsm8k from openai/gsm8k: Dataset 'openai/gsm8k' doesn't exist" in done.stderr


def test_an_unreachable_hub_is_reported(tmp_path: Path) -> None:
    done = from_hub("gsm8k", tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot reach the hub for gsm8k (")
    assert done.stderr.endswith("or pass a folder with a copy of it (--data DIR, with the data in DIR/gsm8k)\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_hub_that_only_fails_is_reported(tmp_path: Path) -> None:
    """The library tries six times; half a minute, of which almost all is waiting."""
    with hub(500) as address:
        done = from_hub("gsm8k", tmp_path, HF_ENDPOINT=address)
    assert done.stderr.splitlines() == [
        "error: cannot reach the hub for gsm8k (no response); try again later, or pass a folder with a copy of it "
        "(--data DIR, with the data in DIR/gsm8k)"
    ]
