"""`memstore score`: predict the reward of rollouts without a ground truth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import (
    DeviceOption,
    JsonOption,
    MapOption,
    MemoryOption,
    ModelOption,
    UsageError,
    record_defaults,
    with_option_groups,
)
from memstore_cli.output import counted, print_json, print_table
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from memstore.memory import Memory
    from memstore_gnn.scoring.remembered import Judge
    from memstore_gnn.verbs import Abstention, ScoreSummary


class AbstainMode(StrEnum):
    """The modes of `memstore_gnn.scoring.abstain`, which this module does not import."""

    WITHHOLD = "withhold"
    SHRINK = "shrink"


@dataclass(frozen=True)
class AbstainOptions:
    """What happens to uncertain rewards in the output."""

    abstain: Annotated[
        AbstainMode | None,
        typer.Option("--abstain", show_default=False, help="Withhold uncertain rewards, or shrink to the group mean."),
    ] = None
    risk: Annotated[
        float | None,
        typer.Option("--risk", min=0.0, max=1.0, show_default="0.1", help="Accepted share of wrong rewards."),
    ] = None
    band: Annotated[
        float | None,
        typer.Option(
            "--band",
            min=0.0,
            max=0.5,
            show_default=False,
            help="Probabilities within this distance of 0.5 are uncertain, regardless of --risk.",
        ),
    ] = None

    def check(self, output: Path | None) -> None:
        """Check that the options are used together."""
        if self.abstain is None and (self.risk is not None or self.band is not None):
            raise UsageError("--risk and --band need a mode; also pass --abstain withhold or --abstain shrink")
        if self.abstain is not None and output is None:
            raise UsageError("--abstain changes rewards in the lines of --output; also pass --output FILE")

    def abstention(self) -> Abstention | None:
        """The library's form of these options."""
        if self.abstain is None:
            return None
        from memstore_gnn.scoring.abstain import RISK, Mode
        from memstore_gnn.verbs import Abstention

        return Abstention(Mode(self.abstain), RISK if self.risk is None else self.risk, self.band)


@dataclass(frozen=True)
class SourceOptions:
    """Which rollouts are scored."""

    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", show_default=False, help="Score the rollouts of this file without adding them."),
    ] = None
    as_ingested: Annotated[
        bool,
        typer.Option("--as-ingested", help="Score FILE as if it were in the memory: its rollouts of a query all vote."),
    ] = False
    paths: MapOption = None

    def check(self) -> None:
        """Check that the options are used together."""
        if self.paths is not None and self.file is None:
            raise UsageError("--map needs a FILE; pass one, or leave out the option")
        if self.as_ingested and self.file is None:
            raise UsageError("--as-ingested needs a FILE; pass one, or leave out the option")

    def scorer(self, store: Memory) -> Callable[..., ScoreSummary]:
        """The library function that scores these rollouts."""
        from memstore_gnn.verbs import score_file, score_memory_rollouts

        if self.file is None:
            return partial(score_memory_rollouts, store)
        defaults = record_defaults(None, None, None, paths=self.paths)
        return partial(score_file, store, self.file, as_ingested=self.as_ingested, defaults=defaults)


@with_option_groups
def score(
    source: SourceOptions,
    uncertain: AbstainOptions,
    memory: MemoryOption = "",
    model: ModelOption = None,
    bands: Annotated[
        bool,
        typer.Option("--bands", help="List the model's bands for --abstain with coverage and error; score nothing."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", show_default=False, help="Write a JSON line for each scored rollout."),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the reward of every rollout in the memory without a ground truth, or of the rollouts in a file.

    A rollout whose answer the memory knows to be right or wrong gets this verdict (source `remembered`). Scores of the
    memory's rollouts are stored as SCORED_BY edges, beside those of earlier models.
    """
    source.check()
    uncertain.check(output)
    if bands:
        if source.file is not None or output is not None:
            raise UsageError("--bands scores nothing; leave out FILE and --output, or --bands")
        _show_bands(memory, model, as_json)
        return
    with (
        open_memory(memory, device=device) as store,
        show_progress(as_json) as progress,
        stored_golds() as judge,
    ):
        summary = source.scorer(store)(
            model=model,
            output=output,
            abstention=uncertain.abstention(),
            judge=judge,
            device=store.settings.device,
            progress=progress,
        )
    _print_warnings(summary)
    if as_json:
        print_json(summary.as_json())
    else:
        show_scores(summary)


@contextmanager
def stored_golds() -> Iterator[Judge]:
    """A judge that compares answers with reference answers of the memory; it runs no programs."""
    from memstore_rl.verifiers.stored_golds import standard_judge

    with standard_judge() as judge:
        yield judge


def _show_bands(location: str, model: str | None, as_json: bool) -> None:
    """Print the candidate bands of a model."""
    from memstore_gnn.verbs import bands_of_model

    with open_memory(location) as store:
        name, rows = bands_of_model(store, model)
    if as_json:
        print_json({"model": name, "bands": [row._asdict() for row in rows]})
        return
    if not rows:
        print(f"{name} has no bands: it was trained without labelled queries to measure them on")
        return
    cells = [
        (f"{row.band:.3f}", f"{row.coverage:.1%}", f"{row.risk:.3f}", f"{row.error:.3f}", f"{row.smallest_risk:.3f}")
        for row in rows
    ]
    print_table(("band", "coverage", "risk", "error", "--risk from"), cells)
    print(f"{name}; risk is the share of wrong rewards outside the band, on held-out labelled queries")


def _print_warnings(summary: ScoreSummary) -> None:
    drift = summary.drift.sentence() if summary.drift else None
    if drift:
        print(f"warning: {drift}", file=sys.stderr)
    for sentence in (summary.contradictions, *summary.warnings):
        if sentence:
            print(f"warning: {sentence}", file=sys.stderr)
    if summary.alone:
        print(
            f"warning: {summary.alone:,} of the rollouts are alone in their group, although the file has rollouts of "
            "the same query from another policy, run or step; pass --as-ingested to count their votes",
            file=sys.stderr,
        )


def show_scores(summary: ScoreSummary) -> None:
    """Print the number of scored rollouts, the model, and the output file."""
    print(f"{counted(summary.scored, 'rollout')} scored by {summary.model} ({summary.seconds:.1f} s)")
    if summary.remembered:
        print(f"{summary.remembered:,} of them remembered: the memory knows whether their answer is right")
    if summary.band is not None:
        print(f"{summary.abstained:,} uncertain: their probability is within {summary.band:.3f} of 0.5")
    if summary.output:
        print(f"written to {summary.output}")
