"""Operations on the reward models of an open memory: `memstore train` and `memstore score` as library functions.

A model is a folder under the memory's `models/` and a RewardModel node that names the folder. Its predictions are
SCORED_BY edges, which are only ever added. `memstore_gnn.evaluation` has the functions behind `memstore evaluate` and
`memstore promote`, and `memstore_gnn.models.registry` those behind `memstore models`.
"""

from memstore_gnn.models.stored_model import open_model, visible_to
from memstore_gnn.verbs.queue import Queue, queue_memory
from memstore_gnn.verbs.score import (
    Abstention,
    ScoreSummary,
    bands_of_model,
    score_file,
    score_memory_rollouts,
)
from memstore_gnn.verbs.train import TrainResult, TrainSummary, overall, train_memory, train_snapshot

__all__ = [
    "Abstention",
    "Queue",
    "ScoreSummary",
    "TrainResult",
    "TrainSummary",
    "bands_of_model",
    "open_model",
    "overall",
    "queue_memory",
    "score_file",
    "score_memory_rollouts",
    "train_memory",
    "train_snapshot",
    "visible_to",
]
