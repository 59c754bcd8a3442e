"""Compare predictors on the labels of an open memory: `memstore evaluate` as a library function.

The protocol is that of `memstore_gnn.evaluation.evaluate`. Predictors are selected by their names in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.knn import NearestNeighbours
from memstore_gnn.baselines.label_propagation import LabelPropagation
from memstore_gnn.baselines.logistic import Boosting, Logistic
from memstore_gnn.baselines.paper import Paper
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.read_memory import read_part
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, evaluate
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.models.device import pick_device
from memstore_gnn.models.map_logistic import MapLogistic

PREDICTORS = ("constant", "vote_share", "knn", "label_propagation", "logistic", "boosting", "shrunken", "memstore")
"""Predictors compared by default; `memstore` is the model of `memstore train`, and `shrunken` its base."""
ON_REQUEST = ("paper", "paper_reversed")
"""Predictors that take minutes where the others take seconds; compared only if named."""


def evaluate_memory(
    memory: Memory,
    *,
    predictors: Sequence[str] | None = None,
    budgets: Sequence[float] = (0.2,),
    seeds: Sequence[int] = (0,),
    datasets: Sequence[str] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    keep: Callable[[Prediction], None] | None = None,
) -> list[EvaluationRow]:
    """Compare predictors on labels that are hidden from them, without changing the memory.

    Of a large memory, some queries are read (`memstore_gnn.data.drawn`).

    Args:
        predictors: names from `PREDICTORS` and `ON_REQUEST`; None takes all of `PREDICTORS`.
        budgets: shares of each data set's labelled queries whose labels are visible, 0..1.
        seeds: seeds of the splits and of the predictors.
        datasets: data sets to report; None reports all.
        device: `cpu` or `cuda`; None takes a GPU if there is one.
        keep: called with the predictions behind each row, from which `memstore_gnn.evaluation.curves` makes curves.

    Raises:
        InputError: a predictor or data set does not exist, a budget is outside 0..1, or there is no ground truth.
    """
    progress = progress or Silent()
    chosen = [predictor_named(name, memory, device) for name in predictors or PREDICTORS]
    progress.stage("read the memory")
    snapshot = read_part(memory)
    progress.stage("evaluate", len(chosen) * len(budgets) * len(seeds))
    return evaluate(snapshot, chosen, budgets, seeds, datasets, lambda line: progress.advance(1), keep)


def predictor_named(name: str, memory: Memory, device: str | None = None) -> Predictor:
    """Create a predictor by its name in tables.

    Raises:
        InputError: there is no predictor of this name.
    """
    known: dict[str, Callable[[], Predictor]] = {
        "constant": Constant,
        "vote_share": VoteShare,
        "knn": NearestNeighbours,
        "label_propagation": LabelPropagation,
        "logistic": Logistic,
        "boosting": Boosting,
        "shrunken": MapLogistic,
        "memstore": lambda: OwnModel(device=device),
        "paper": lambda: Paper(embed=memory.embedder.embed, device=pick_device(device)),
        "paper_reversed": lambda: Paper("new_to_memory", embed=memory.embedder.embed, device=pick_device(device)),
    }
    if name not in known:
        raise InputError(f"there is no predictor {name!r}; there are {', '.join((*PREDICTORS, *ON_REQUEST))}")
    return known[name]()
