"""`memstore datasets`: list the benchmarks, show one, and write its questions to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.options import DataOption, JsonOption, UsageError
from memstore_cli.output import counted, print_facts, print_json, print_table

if TYPE_CHECKING:
    from memstore_rl.benchmarks import BenchmarkSample, Declaration
    from memstore_rl.benchmarks.question import Question


class SplitChoice(StrEnum):
    """The splits of `memstore_rl.benchmarks.budget`, which this module does not import."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", show_default=False, help="A benchmark, or a file that declares one."),
    ] = None,
    data: DataOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", show_default=False, help="Write the questions of NAME as JSON lines."),
    ] = None,
    split: Annotated[
        SplitChoice | None, typer.Option("--split", show_default=False, help="Write only this split.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample and of its splits.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, show_default=False, help="Write at most this many questions of each split."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            metavar="TEXT",
            show_default=False,
            help="Write this system message in place of the benchmark's prompts.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the benchmarks; with a NAME, load that benchmark and show its first question."""
    _check_output(output, limit, system)
    if name is None:
        if output is not None or split is not None:
            raise UsageError("--output and --split need a benchmark; pass its NAME")
        _list(data, as_json)
        return
    quiet_libraries()
    from dataclasses import replace

    from memstore.errors import InputError
    from memstore_rl.benchmarks import declaration_of, sample
    from memstore_rl.benchmarks.load import first_of_each_split

    declaration = declaration_of(name)
    if declaration is None:
        raise InputError(f"{name} is a file of queries, not a benchmark; use it with `memstore rollout {name}`")
    drawn = sample(declaration, seed, data)
    chosen = [question for question in drawn.questions if split in (None, question.split)]
    chosen = chosen if limit is None else first_of_each_split(chosen, limit)
    if system is not None:
        chosen = [replace(question, prompt=None, system=system) for question in chosen]
    if output is not None:
        _write(output, [_row(question) for question in chosen])
    if as_json:
        print_json(_facts(declaration, data) | _counts(drawn) | {"written": len(chosen) if output else None})
    else:
        _show(declaration, drawn, data)
        if output is not None:
            print(f"{counted(len(chosen), 'question')} written to {output}")


def _check_output(output: Path | None, limit: int | None, system: str | None) -> None:
    if output is None and (limit is not None or system is not None):
        raise UsageError("--limit and --system change the file that is written; add --output FILE")


def _list(data: Path | None, as_json: bool) -> None:
    from memstore_rl.benchmarks import benchmarks

    found = [_facts(declaration, data) for declaration in benchmarks().values()]
    if as_json:
        print_json(found)
        return
    columns = ("name", "domain", "for", "here", "licence", "link")
    print_table(
        columns,
        [[(entry | {"for": "test" if entry["out_of_domain"] else ""})[name] for name in columns] for entry in found],
    )
    print("for test: out of domain in the paper; here: a copy in --data, or in the cache of the datasets library")


def _facts(declaration: Declaration, data: Path | None) -> dict[str, Any]:
    from memstore_rl.benchmarks import cached, local_copy

    copied = data is not None and local_copy(declaration, data) is not None
    here = (
        "copy"
        if copied or declaration.local
        else "cached"
        if cached(declaration)
        else "gated"
        if declaration.gated
        else ""
    )
    return {
        "name": declaration.name,
        "title": declaration.title,
        "domain": declaration.domain,
        "here": here,
        "out_of_domain": declaration.out_of_domain,
        "source": declaration.source,
        "config": declaration.config,
        "revision": declaration.revision,
        "splits": list(declaration.splits),
        "sample": declaration.sample,
        "gated": declaration.gated,
        "licence": declaration.licence,
        "link": declaration.link,
    }


def _counts(drawn: BenchmarkSample) -> dict[str, Any]:
    splits = [question.split for question in drawn.questions]
    return {
        "rows": drawn.rows,
        "questions": len(splits),
        "drawn": {name.value: splits.count(name.value) for name in SplitChoice},
        "left_out": drawn.left_out,
    }


def _show(declaration: Declaration, drawn: BenchmarkSample, data: Path | None) -> None:
    """Print the counts of the sample and its first question."""
    counts, facts = _counts(drawn), _facts(declaration, data)
    shares = ", ".join(f"{name} {count:,}" for name, count in counts["drawn"].items())
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in drawn.left_out.items())
    origin = [facts["source"], facts["config"], "+".join(facts["splits"])]
    print_facts(
        {"benchmark": f"{declaration.name} ({declaration.domain})", "source": " ".join(filter(None, origin))}
        | {"licence": declaration.licence, "link": declaration.link}
        | {"questions": f"{counts['questions']:,} of {counted(drawn.rows, 'row')}: {shares}"}
        | ({"left out": f"of the rows read, {left_out}"} if left_out else {})
    )
    first = drawn.questions[0]
    print(f"\n{first.prompt or first.text}\n\ngold: {first.gold if first.gold is None else first.gold[:200]}")


def _row(question: Question) -> dict[str, Any]:
    """A question as a row of a file of queries."""
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
        raise InputError(f"{path} already exists; choose a new file") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
