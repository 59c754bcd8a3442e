"""Predictors compared on a memory's own labels: what `memstore evaluate` does.

The rules and models by their names in tables, and the protocol of `memstore_gnn.evaluation.evaluate` on an open memory.
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
from memstore_gnn.evaluation.attention import Attention
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, evaluate
from memstore_gnn.models.map_logistic import Shrunken
from memstore_gnn.training.train import pick_device

PREDICTORS = ("constant", "vote_share", "knn", "label_propagation", "logistic", "boosting", "shrunken", "attention")
"""Those that are compared unless named otherwise; `attention` is what `memstore train` makes, `shrunken` its base."""
ON_REQUEST = ("paper", "paper_reversed")
"""Those that take minutes where the others take seconds."""


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
    """Compare predictors on labels that are hidden from them; the memory is only read.

    Args:
        predictors: some of `PREDICTORS` and `ON_REQUEST`; None takes all of the former.
        datasets: report these only.
        keep: called with the predictions behind each row, the material of `memstore_gnn.evaluation.plots`.

    Raises:
        InputError: a predictor or dataset that there is not, a budget that is no share, no ground truth.
    """
    progress = progress or Silent()
    chosen = [predictor_named(name, memory, device) for name in predictors or PREDICTORS]
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("evaluate", len(chosen) * len(budgets) * len(seeds))
    return evaluate(snapshot, chosen, budgets, seeds, datasets, lambda line: progress.advance(1), keep)


def predictor_named(name: str, memory: Memory, device: str | None = None) -> Predictor:
    """A predictor by its name in tables.

    Raises:
        InputError: there is none of this name.
    """
    known: dict[str, Callable[[], Predictor]] = {
        "constant": Constant,
        "vote_share": VoteShare,
        "knn": NearestNeighbours,
        "label_propagation": LabelPropagation,
        "logistic": Logistic,
        "boosting": Boosting,
        "shrunken": Shrunken,
        "attention": lambda: Attention(device=device),
        "paper": lambda: Paper(embed=memory.embedder.embed, device=pick_device(device)),
        "paper_reversed": lambda: Paper("new_to_memory", embed=memory.embedder.embed, device=pick_device(device)),
    }
    if name not in known:
        raise InputError(f"there is no predictor {name!r}; there are {', '.join((*PREDICTORS, *ON_REQUEST))}")
    return known[name]()
