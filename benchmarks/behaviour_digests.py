"""Digest what the command does, so that two versions can be compared: ids, scores, JSON documents and named queries.

    python benchmarks/behaviour_digests.py --output before.json [FILE ...]
    python benchmarks/behaviour_digests.py --compare before.json [FILE ...]

Each file of rollouts (the shipped sample if none is given) goes through ingest, stats, train, evaluate, score (of the
memory and of the file), verify, every named query and a snapshot in a fresh memory. Durations, times of day and paths
are left out of the digests; everything else counts. The script calls the command only, so it runs unchanged before and
after a rearrangement of the code. `--compare` exits with 1 where a digest differs and names it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from memstore_schema.queries import named_queries

COMMAND = Path(sys.executable).with_name("memstore")
VOLATILE = re.compile(r"seconds|_at$|^created|path$|^output$|^folder$|rejects_file")
"""Keys whose values differ from run to run, or tell of the folder that the run took place in."""


def main() -> int:
    """Write the digests, or compare them with those of another version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="files of rollouts; the shipped sample if none is given")
    parser.add_argument("--output", type=Path, help="write the digests to this file")
    parser.add_argument("--compare", type=Path, help="compare with the digests of this file")
    arguments = parser.parse_args()
    files = arguments.files or [Path(__file__).parents[1] / "memstore/sample/arithmetic.jsonl.gz"]
    digests = {f"{file.name}: {name}": value for file in files for name, value in digests_of(file.resolve()).items()}
    if arguments.output:
        arguments.output.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    if not arguments.compare:
        print(json.dumps(digests, indent=1))
        return 0
    before = json.loads(arguments.compare.read_text(encoding="utf-8"))
    # A version with further named queries has further digests; those both have must be equal.
    changed = [name for name in before if digests.get(name) != before[name]]
    for name in changed:
        print(f"differs: {name}")
    print(f"{len(before) - len(changed)} of {len(before)} digests are equal")
    return 1 if changed else 0


def digests_of(file: Path) -> dict[str, str]:
    """A digest for each document that the command prints about a memory of this file."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def document(*words: str) -> Any:
            done = subprocess.run(
                [COMMAND, *words, "--memory", "memory", "--json"], cwd=work, capture_output=True, text=True, check=True
            )
            return json.loads(done.stdout)

        found = {"ingest": document("ingest", str(file)), "stats": document("stats")}
        found["train"] = document("train", "--budget", "0.2")
        found["score"] = document("score", "--output", "memory-scores.jsonl")
        found["score of the memory"] = _lines(work / "memory-scores.jsonl")
        found["score FILE"] = document("score", str(file), "--output", "file-scores.jsonl")
        found["score of the file"] = _lines(work / "file-scores.jsonl")
        found["evaluate"] = document("evaluate", "--budget", "0.2", "--seed", "0")
        found["verify"] = document("verify")
        found["snapshot"] = document("snapshot", "snapshot")
        rollout = document("cypher", "MATCH (t:Thinking) RETURN t.id AS id ORDER BY id LIMIT 1")[0]["id"]
        found["explain"] = document("explain", rollout)
        for query in named_queries():
            words = ["--param", f"rollout={rollout}"] if "$rollout" in query.text else []
            found[f"query {query.name}"] = document("cypher", "--query", query.name, *words)
    return {name: _digest(value) for name, value in found.items()}


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _digest(value: Any) -> str:
    text = json.dumps(_settled(value), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _settled(value: Any) -> Any:
    """The value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [_settled(item) for item in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
