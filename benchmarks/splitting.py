"""Measure agreement of splitting and extraction with the sources' own, and the time of reading.

    python benchmarks/splitting.py [--data ../shared/data] [--misses N]

`raw/` and `rollouts/` hold the same rollouts before and after the source split them. Agreement is the share of equal
canonical values among the rollouts whose source read an answer. Time is the processor time of one core to read a file
of 80,000 rows of about 1.2 kB, to parse them into records, and to canonicalise their answers.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from memstore.records.readers import open_source
from memstore.records.record import RecordDefaults, parse_record
from memstore.text import canonical_answer, split_response

ROWS, ROW_BYTES = 80_000, 1_200
_STATED = re.compile(r"answer is:?\s*\**\(?([A-Z])\b")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a packed JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def kind_of_miss(raw: dict[str, Any], ours: str) -> str:
    """Classify why two readings of one response differ."""
    if raw["domain"] == "code":
        return "the source keeps text after the function, which does not parse"
    stated = _STATED.findall(raw["response"])
    if len(ours) > 1:
        return "several options are named at once; the source takes the first, memstore none"
    if len(set(stated)) > 1:
        return "several answers are stated in turn; the source takes the first, memstore the last"
    return "other"


def agreement(data: Path, name: str, shown: int) -> None:
    """Print the figures of one file."""
    pairs = zip(*(rows_of(data / kind / f"{name}.jsonl.gz") for kind in ("raw", "rollouts")), strict=True)
    counts: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    for raw, given in pairs:
        split = split_response(raw["response"], raw["domain"])
        ours = canonical_answer(split.answer, raw["domain"], raw["query"]).value
        theirs = canonical_answer(given["answer"], raw["domain"], raw["query"]).value
        counts["thinking"] += split.thinking == given["thinking"].strip()
        counts["rows"] += 1
        if not given["answer"].strip():
            counts["unread"] += 1
            counts["unread by us"] += not ours
            continue
        counts["agreed"] += ours == theirs
        if ours != theirs:
            misses[kind_of_miss(raw, ours)] += 1
            if misses.total() <= shown:
                print(f"    ours {ours[:60]!r}  theirs {theirs[:60]!r}  of {raw['response'][-120:]!r}")
    answered = counts["rows"] - counts["unread"]
    print(
        f"{name}: {counts['agreed']} of {answered} answers agree ({counts['agreed'] / answered:.2%}); "
        f"thinking alike in {counts['thinking'] / counts['rows']:.2%}; "
        f"of {counts['unread']} without an answer memstore reads {counts['unread'] - counts['unread by us']}"
    )
    for kind, number in misses.most_common():
        print(f"    {number:4d}  {kind}")


def speed(data: Path) -> None:
    """Print the seconds of each stage."""
    names = ("openai_gsm__gsm8k", "faithfulcot__gsm8k", "zeroeval__gsm8k", "mmlupro__mmlu_pro_ori")
    rows = itertools.cycle([row for name in names for row in rows_of(data / "rollouts" / f"{name}.jsonl.gz")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rollouts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in itertools.islice(rows, ROWS):
                short = ROW_BYTES - len(json.dumps(row))
                longer = row["thinking"] + (" " + row["thinking"] * 8)[: max(0, short)]
                file.write(json.dumps({**row, "thinking": longer}) + "\n")
        size = path.stat().st_size
        marks = [time.process_time()]
        read = list(open_source(path))
        marks.append(time.process_time())
        records = [parse_record(row.values or {}, RecordDefaults()) for row in read]
        marks.append(time.process_time())
        for record in records:
            canonical_answer(record.answer, record.domain or "other", record.query)
        marks.append(time.process_time())
    stages = ", ".join(
        f"{stage} {after - before:.2f} s"
        for stage, before, after in zip(("read", "record", "canonical"), marks, marks[1:], strict=False)
    )
    print(f"{ROWS} rows of {size / ROWS:.0f} bytes: {stages}, together {marks[-1] - marks[0]:.2f} s")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--misses", type=int, default=0, help="number of misses to print for each file")
    options = parser.parse_args()
    for name in ("openai_gsm__gsm8k", "mmlupro__mmlu_pro_ori", "codet__humaneval"):
        agreement(options.data, name, options.misses)
    speed(options.data)


if __name__ == "__main__":
    main()
