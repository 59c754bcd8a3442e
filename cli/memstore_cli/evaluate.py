"""`memstore evaluate`: compare predictors on held-out labels."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption, with_option_groups
from memstore_cli.output import METRIC_NAMES, print_json, print_table
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.memory import Memory
    from memstore.progress import Progress
    from memstore_gnn.evaluation.curves import Curves
    from memstore_gnn.evaluation.evaluate import EvaluationRow
    from memstore_gnn.evaluation.situations import SituationRow


@dataclass(frozen=True)
class ComparisonOptions:
    """Which predictors are compared, and on which labels."""

    budget: Annotated[
        list[float] | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default="0.2",
            help="Share of the labelled queries to train on. Repeatable.",
        ),
    ] = None
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", show_default="0", help="Seed of the split and the training. Repeatable."),
    ] = None
    protocol: Annotated[
        bool, typer.Option("--protocol", help="Use all budgets (0 to 70 %) and three seeds, unless given.")
    ] = False
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            "--predictor", metavar="NAME", show_default="all fast ones", help="A predictor to compare. Repeatable."
        ),
    ] = None
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            show_default="all",
            help="Report this dataset only; training uses all. Repeatable.",
        ),
    ] = None
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots", metavar="FOLDER", help="Write charts of budgets, calibration and risk to FOLDER, as SVG."
        ),
    ] = None

    situations: Annotated[
        bool,
        typer.Option(
            "--situations",
            help="Measure instead how well the rollouts of half of the policies predict the rewards of the other half.",
        ),
    ] = False

    def check(self) -> None:
        """Refuse options that `--situations` does not use."""
        others = (("--budget", self.budget), ("--predictor", self.predictor), ("--dataset", self.dataset))
        given = [name for name, value in (*others, ("--plots", self.plots), ("--protocol", self.protocol)) if value]
        if self.situations and given:
            raise typer.BadParameter(f"--situations cannot be combined with {given[0]}; leave one of them out")

    def run_situations(self, store: Memory, progress: Progress) -> list[SituationRow]:
        """Measure how well the memory predicts the rewards of new policies."""
        from memstore_gnn.evaluation.situations import SITUATIONS, evaluate_situations

        seeds = self.seed or [0]
        progress.stage("read the memory")
        snapshot = store.snapshot()
        progress.stage("evaluate", 2 * len(SITUATIONS) * len(seeds))
        device = store.settings.device
        return evaluate_situations(snapshot, seeds=seeds, device=device, progress=lambda line: progress.advance(1))

    def run(self, store: Memory, progress: Progress) -> tuple[list[EvaluationRow], Curves]:
        """Evaluate the predictors."""
        from memstore_gnn.evaluation.compare import evaluate_memory
        from memstore_gnn.evaluation.curves import CurveCollector
        from memstore_gnn.evaluation.evaluate import BUDGETS, SEEDS

        budgets = self.budget or (list(BUDGETS) if self.protocol else [0.2])
        collector = CurveCollector(budgets)
        rows = evaluate_memory(
            store,
            predictors=self.predictor,
            budgets=budgets,
            seeds=self.seed or (SEEDS if self.protocol else [0]),
            datasets=self.dataset,
            device=store.settings.device,
            progress=progress,
            keep=collector.add,
        )
        return rows, collector.curves()


@with_option_groups
def evaluate(
    comparison: ComparisonOptions,
    memory: MemoryOption = "",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide part of the labels, train predictors on the rest, and measure them on the hidden ones.

    The memory keeps its labels and gets no model. The figures are kept beside its model in use, for the page Evaluation
    of memstore inspect.
    """
    comparison.check()
    with open_memory(memory, device=device) as store:
        from memstore_gnn.evaluation.kept import keep_comparison, keep_situations, place_of

        place = place_of(store)
        if comparison.situations:
            with show_progress(as_json) as progress:
                situations = comparison.run_situations(store, progress)
            _print_situations(situations, as_json)
            if isinstance(place, Path):
                keep_situations(place, situations)
            else:
                _note(place)
            return
        from memstore_rl.inspector.evaluation_charts import check_folder, write_charts

        if comparison.plots is not None:
            check_folder(comparison.plots)
        with show_progress(as_json) as progress:
            rows, curves = comparison.run(store, progress)
        _print(rows, as_json)
        for path in write_charts(curves, comparison.plots) if comparison.plots is not None else ():
            if not as_json:
                print(path)
        if isinstance(place, Path):
            keep_comparison(place, rows, curves)
        else:
            _note(place)


def _print(rows: Sequence[EvaluationRow], as_json: bool) -> None:
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    print_table(("dataset", "predictor", "budget", "seeds", "rollouts", *METRIC_NAMES.values()), _lines(rows))


def _note(why: str) -> None:
    """Say that the figures are not kept."""
    print(f"note: {why}", file=sys.stderr)


def _print_situations(rows: Sequence[SituationRow], as_json: bool) -> None:
    """Print the means over seeds and orders of the halves."""
    from memstore_gnn.evaluation.situations import means

    found = [row._asdict() for row in means(rows)]
    for row in found:
        del row["seed"]
        row.update({name: _rounded(row[name]) for name in ("auc", "advantage_soft", "ece", "gap")})
    if as_json:
        print_json(found)
    else:
        print_table(tuple(found[0]), [list(row.values()) for row in found])


def _lines(rows: Sequence[EvaluationRow]) -> list[list[Any]]:
    """Rows with the mean over seeds per dataset, predictor and budget; with several seeds, also standard errors."""
    from memstore_gnn.evaluation.evaluate import summary

    cells = {(cell.dataset, cell.predictor, cell.budget, cell.metric): cell for cell in summary(rows)}
    lines: list[list[Any]] = []
    for key in dict.fromkeys((row.dataset, row.predictor, row.budget) for row in rows):
        own = [row.rollouts for row in rows if (row.dataset, row.predictor, row.budget) == key]
        metrics = [cells[*key, name] for name in METRIC_NAMES]
        lines.append([*key, len(own), round(sum(own) / len(own)), *(_rounded(cell.mean) for cell in metrics)])
        if len(own) > 1:
            lines.append(["", "±", None, None, None, *(_rounded(cell.error) for cell in metrics)])
    return lines


def _rounded(value: float) -> float | None:
    """Rounded to three decimals; None for NaN."""
    return None if math.isnan(value) else round(value, 3)
