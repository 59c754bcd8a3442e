"""Open a reward model that is stored in a memory, and select the labels it may see.

The model card records which labels a model may see, and `memstore_gnn.data.visibility` selects them. Trained without a
label budget, it sees all labels of the memory, including those added after training, except those of audit queries and
hidden runs. Trained with a budget, it sees only the labels of the budget's queries. All other rollouts then count as
unlabelled, so that `score` predicts them and the predictions can be compared with the labels.
"""

from __future__ import annotations

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.visibility import Visible, visible
from memstore_gnn.models.checkpoint import load_model
from memstore_gnn.models.device import device_memory, pick_device
from memstore_gnn.models.registry import model_folder
from memstore_gnn.models.reward_model import RewardModel


def open_model(memory: Memory, model: str | None = None, device: str | None = None) -> RewardModel:
    """Load a reward model of the memory, by default the one in use.

    Raises:
        ModelError: the memory has no model or no model of this name, its files cannot be read, or the device does
            not exist.
    """
    with device_memory("loading a model"):
        return load_model(model_folder(memory, model), pick_device(device))


def visible_to(model: RewardModel, snapshot: Snapshot) -> FloatVector:
    """Labels that the model may see, float64 [T]; NaN for all other rollouts."""
    return seen_by(model, snapshot).reward


def seen_by(model: RewardModel, snapshot: Snapshot) -> Visible:
    """Labels and reference answers that the model may see."""
    return visible(snapshot, model.card.visibility)
