"""Where a model is not sure, its reward is withheld, or shrunk to the mean of its group.

Sure is far from 0.5. The band around 0.5 in which a model says "not sure" is chosen for a risk: the share of the
remaining rewards that may lie on the wrong side of 0.5. Training keeps, for falling coverage, the band and the risk
that it left on labelled queries which the model's parts had not been fitted to; so no label of a report is used up.
A risk counts with its standard error: with few labelled queries the model abstains more.

A ground truth is never abstained from, and the probability stays what the model said. Shrinking to the group's mean
leaves group-relative policy optimisation without an advantage for that rollout, and the others with theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError, ModelError
from memstore.types import FloatVector, IntVector
from memstore_gnn.scoring.score import PREDICTED, Scores

ABSTAINED, SHRUNK = "abstained", "shrunk"
COVERAGES = tuple(round(1.0 - 0.05 * step, 2) for step in range(19))
"""1.0 down to 0.1: the coverages that training keeps a band for."""
RISK = 0.1
"""The risk that a band is chosen for unless told otherwise."""


class Mode(StrEnum):
    """What becomes of a reward that the model is not sure of."""

    WITHHOLD = "withhold"
    SHRINK = "shrink"


class RiskBand(NamedTuple):
    """With this band, the model speaks of `coverage` of the rollouts and is wrong about `risk` of those."""

    coverage: float
    band: float
    """Half its width, 0..0.5: not sure where the probability is nearer to 0.5."""
    risk: float
    error: float
    """Standard error of the risk; rollouts of one query are no independent examples."""


def risk_bands(probability: FloatVector, reward: FloatVector, query: IntVector) -> list[RiskBand]:
    """The band and risk of falling coverages, on rollouts whose truth is known (float64 [N]; query int64 [N])."""
    if not len(reward):
        return []
    sureness = np.sort(np.abs(probability - 0.5))[::-1]
    wrong = (probability > 0.5) != (reward > 0.5)
    found = []
    for coverage in COVERAGES:
        band = 0.0 if coverage == 1.0 else float(sureness[max(int(np.ceil(coverage * len(reward))), 1) - 1])
        taken = np.abs(probability - 0.5) >= band
        # Half a mistake more: no mistake among a few is no proof of a risk of zero.
        cautious = (wrong[taken].sum() + 0.5) / (taken.sum() + 1.0)
        error = float(np.sqrt(cautious * (1.0 - cautious) / len(np.unique(query[taken]))))
        found.append(RiskBand(float(taken.mean()), band, float(wrong[taken].mean()), error))
    return found


def band_for(risks: Iterable[Mapping[str, float]], risk: float, model: str) -> float:
    """The band that keeps the most rewards at this risk.

    Args:
        risks: `RiskBand`s by falling coverage, as a model's card has them.
        risk: share of the kept rewards that may be on the wrong side, 0..1.
        model: its id, for the message.

    Raises:
        ModelError: none of the bands keeps to the risk.
    """
    if not 0.0 <= risk <= 1.0:
        raise InputError(f"a risk is a share between 0 and 1; this one is {risk:g}")
    known = [RiskBand(**one) for one in risks]
    for one in known:
        if one.risk + one.error <= risk:
            return one.band
    if not known:
        raise ModelError(f"model {model} has no held-out risks to choose a band by; name the band, or train anew")
    least = min(known, key=lambda one: one.risk + one.error)
    raise ModelError(
        f"no band of model {model} keeps the risk at {risk:g}: the least is {least.risk:.3f} ± {least.error:.3f}, at a "
        f"coverage of {least.coverage:.0%}; ask for a higher one, or name a band"
    )


def abstain(scores: Scores, group: IntVector, band: float, mode: Mode) -> Scores:
    """Withhold or shrink the predicted rewards inside the band.

    Args:
        group: int64 [N], the query of each scored rollout.
        band: half its width, 0..0.5.

    Returns:
        The scores with `reward` NaN and the source `abstained`, or with the mean probability of the scored rollouts
        of the group and the source `shrunk`, where the model is not sure.
    """
    if not 0.0 <= band <= 0.5:
        raise InputError(f"a band is half a width between 0 and 0.5; this one is {band:g}")
    unsure = (np.abs(scores.probability - 0.5) < band) & (scores.source == PREDICTED)
    if mode is Mode.WITHHOLD:
        instead, source = np.full(len(unsure), np.nan), ABSTAINED
    else:
        _, cell = np.unique(group, return_inverse=True)
        instead = (np.bincount(cell, scores.reward) / np.maximum(np.bincount(cell), 1))[cell]
        source = SHRUNK
    sources = np.where(unsure, source, scores.source).astype(np.object_)
    return scores._replace(reward=np.where(unsure, instead, scores.reward), source=sources)
