"""Our reward model without one of its parts, as predictors: what each part is worth is what is lost without it."""

from __future__ import annotations

from collections.abc import Callable

from memstore_gnn.predictors.protocol import Predictor

ABLATIONS: dict[str, Callable[[], Predictor]] = {}
