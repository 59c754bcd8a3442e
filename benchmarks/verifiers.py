"""Compares verdicts on real responses with the rewards of their sources: agreement, and misses by kind.

    python benchmarks/verifiers.py FOLDER [--code] [--misses 5]

FOLDER holds one `.jsonl.gz` per set with `response`, `gold` and `reward`. Each response goes through the splitter and
the verifier of its domain, and the verdict is compared with `reward`. Programs run only with `--code`, in the
sandbox. `--misses` prints that many misses of each kind.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from memstore.text import extract_answer
from memstore.text.choice import options
from memstore_rl.verifiers import Attempt, Verdict, make_verifiers

SHOWN_CHARS = 90
"""Characters of a response's end to print for a miss."""


def kind_of(row: dict[str, Any], attempt: Attempt, verdict: Verdict) -> str:
    """Classify a miss."""
    if verdict.reward is None:
        return "no verdict"
    if verdict.reward > row["reward"]:
        return "judged right"
    if not attempt.answer:
        return "judged wrong: no answer found"
    letters = options(row["query"]).texts
    if sum(f"({letter})" in attempt.answer for letter in letters) > 1:
        return "judged wrong: several options named"
    return "judged wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--code", action="store_true", help="run programs in the sandbox")
    parser.add_argument("--misses", type=int, default=0, help="number of misses of each kind to print")
    arguments = parser.parse_args()
    verifiers = make_verifiers(code=arguments.code)
    print("| set | responses | agreement | no verdict | seconds |\n|---|---|---|---|---|")
    missed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(arguments.folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        domain, name = rows[0]["domain"], path.name.removesuffix(".jsonl.gz")
        if domain == "code" and not arguments.code:
            print(f"| {name} | {len(rows)} | programs are run with --code only | | |")
            continue
        started = time.perf_counter()
        attempts = [Attempt(row["query"], row["gold"], extract_answer(row["response"], domain)) for row in rows]
        verdicts = verifiers.check(domain, attempts)
        seconds = time.perf_counter() - started
        for row, attempt, verdict in zip(rows, attempts, verdicts, strict=True):
            if verdict.reward != row["reward"]:
                end = row["response"][-SHOWN_CHARS:]
                line = f"gold {row['gold'][-30:]!r}, answer {attempt.answer[:60]!r}, ends {end!r}"
                missed[name, kind_of(row, attempt, verdict)].append(line)
        wrong = sum(len(found) for (of, _), found in missed.items() if of == name)
        unverified = sum(verdict.reward is None for verdict in verdicts)
        print(f"| {name} | {len(rows)} | {1 - wrong / len(rows):.2%} | {unverified} | {seconds:.1f} |", flush=True)
    verifiers.close()
    print("\n| set | kind of miss | responses |\n|---|---|---|")
    for (name, kind), found in sorted(missed.items()):
        print(f"| {name} | {kind} | {len(found)} |")
        for line in found[: arguments.misses]:
            print(f"    {line}")


if __name__ == "__main__":
    main()
