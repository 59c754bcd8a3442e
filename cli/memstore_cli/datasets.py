"""`memstore datasets`: the benchmarks, where each comes from, and its questions as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.options import JsonOption, UsageError
from memstore_cli.output import counted, print_facts, print_json, print_table

if TYPE_CHECKING:
    from memstore_rl.benchmarks import Declaration, Sample

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="MEMSTORE_DATA",
        metavar="DIR",
        show_default=False,
        help="Read benchmarks from copies here, DIR/NAME each, and not from the hub.",
    ),
]


class SplitChoice(StrEnum):
    """The splits of `memstore_rl.benchmarks.budget`, without loading it."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", show_default=False, help="A benchmark to load, or a file that declares one."),
    ] = None,
    data: DataOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", show_default=False, help="Write the questions of NAME, a JSON line each."
        ),
    ] = None,
    split: Annotated[
        SplitChoice | None, typer.Option("--split", show_default=False, help="Write those of this split only.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws another sample, with other splits.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the benchmarks; with a NAME, load that one and show what its questions look like."""
    if name is None:
        if output is not None or split is not None:
            raise UsageError("--output and --split are about one benchmark; name it")
        _list(data, as_json)
        return
    from memstore_cli.quiet import silence_libraries

    silence_libraries()
    from memstore.errors import InputError
    from memstore_rl.benchmarks import declaration_of, sample

    declared = declaration_of(name)
    if declared is None:
        raise InputError(f"{name} is a file of queries, not a benchmark; `memstore rollout {name}` asks them")
    drawn = sample(declared, seed, data)
    chosen = [question for question in drawn.questions if split in (None, question.split)]
    if output is not None:
        _write(output, [_row(question) for question in chosen])
    if as_json:
        print_json(_facts(declared, data) | _counts(drawn) | {"written": len(chosen) if output else None})
    else:
        _show(declared, drawn, data)
        if output is not None:
            print(f"{counted(len(chosen), 'question')} written to {output}")


def _list(data: Path | None, as_json: bool) -> None:
    from memstore_rl.benchmarks import benchmarks

    found = [_facts(declared, data) for declared in benchmarks().values()]
    if as_json:
        print_json(found)
        return
    columns = ("name", "domain", "for", "here", "licence", "link")
    print_table(
        columns,
        [[(entry | {"for": "test" if entry["out_of_domain"] else ""})[name] for name in columns] for entry in found],
    )
    print("for test: out of domain in the paper; here: a copy in --data, or cached by the library datasets")


def _facts(declared: Declaration, data: Path | None) -> dict[str, Any]:
    from memstore_rl.benchmarks import cached, local_copy

    copied = data is not None and local_copy(declared, data) is not None
    here = "copy" if copied or declared.local else "cached" if cached(declared) else "gated" if declared.gated else ""
    return {
        "name": declared.name,
        "title": declared.title,
        "domain": declared.domain,
        "here": here,
        "out_of_domain": declared.out_of_domain,
        "source": declared.source,
        "config": declared.config,
        "revision": declared.revision,
        "splits": list(declared.splits),
        "sample": declared.sample,
        "gated": declared.gated,
        "licence": declared.licence,
        "link": declared.link,
    }


def _counts(drawn: Sample) -> dict[str, Any]:
    splits = [question.split for question in drawn.questions]
    return {
        "rows": drawn.rows,
        "questions": len(splits),
        "drawn": {name.value: splits.count(name.value) for name in SplitChoice},
        "left_out": drawn.left_out,
    }


def _show(declared: Declaration, drawn: Sample, data: Path | None) -> None:
    """What was drawn, and the first question."""
    counts, facts = _counts(drawn), _facts(declared, data)
    shares = ", ".join(f"{name} {count:,}" for name, count in counts["drawn"].items())
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in drawn.left_out.items())
    origin = [facts["source"], facts["config"], "+".join(facts["splits"])]
    print_facts(
        {"benchmark": f"{declared.name} ({declared.domain})", "source": " ".join(filter(None, origin))}
        | {"licence": declared.licence, "link": declared.link}
        | {"questions": f"{counts['questions']:,} of {counted(drawn.rows, 'row')}: {shares}"}
        | ({"left out": f"of the rows that were looked at, {left_out}"} if left_out else {})
    )
    first = drawn.questions[0]
    print(f"\n{first.prompt or first.text}\n\ngold: {first.gold if first.gold is None else first.gold[:200]}")


def _row(question: Any) -> dict[str, Any]:
    """A question as a row that is read as the same one."""
    row = {
        "query": question.text,
        "dataset": question.dataset,
        "query_id": question.key,
        "domain": question.domain,
        "gold": question.gold,
        "split": question.split,
        "prompt": question.prompt,
        "system": question.system,
    }
    return {name: value for name, value in row.items() if value is not None}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from memstore.errors import InputError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except FileExistsError as error:
        raise InputError(f"{path} exists; name a new file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
