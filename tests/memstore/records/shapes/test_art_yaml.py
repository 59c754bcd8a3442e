"""ART's trajectories as YAML, as its version 0.3 wrote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from memstore.errors import InputError
from tests.memstore.records.shapes.reading import records, seen

USER = {"role": "user", "content": "How many?"}


@pytest.mark.parametrize("further", [{}, {"metadata": {}}, {"metadata": {"scenario": "s", "seed": 3}}])
def test_yaml_is_refused_with_a_command_that_converts_it(tmp_path: Path, further: dict[str, object]) -> None:
    trajectories = [
        {
            "reward": reward, "metrics": {"turns": 1}, "metadata": {}, "logs": [],
            # The same object in both, which YAML writes as an alias.
            "messages_and_choices": [
                USER, {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": text}}
            ],
        }
        for text, reward in (("4 * 3\n#### 12", 1.0), ("#### 7", 0.0))
    ]  # fmt: skip
    path = tmp_path / "0001.yaml"
    path.write_text(yaml.dump([{"trajectories": trajectories, **further}]))
    assert "*id001" in path.read_text()
    with pytest.raises(InputError, match="0001.yaml has ART's trajectories as YAML, which is not read") as refused:
        records(path)
    program = str(refused.value).partition("python -c '")[2].partition("'")[0]
    new = tmp_path / "new.jsonl"
    with path.open() as file, new.open("w") as out:
        subprocess.run([sys.executable, "-c", program], stdin=file, stdout=out, check=True, timeout=60)
    assert seen(records(new)) == [("How many?", "4 * 3", "12", None, 1.0), ("How many?", "", "7", None, 0.0)]
