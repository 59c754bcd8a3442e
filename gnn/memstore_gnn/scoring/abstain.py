"""Abstention: withhold uncertain rewards, or shrink them to the mean of their group.

A prediction is uncertain if its probability lies within a band around 0.5. The band is chosen for a risk: the share of
the remaining rewards that may be on the wrong side of 0.5. Training stores bands and risks for falling coverage,
measured on out-of-fold predictions of labelled queries, so that no label of the report is needed. The stored votes on
these queries count as in scoring (`memstore_gnn.training.held_out`). A risk counts with its standard error: with few
labelled queries the model abstains more often.

Ground-truth rewards are kept, and so is the predicted probability. A reward that is shrunk to the group's mean has no
advantage in group-relative policy optimisation; the other rollouts of the group keep theirs.
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
"""Coverages for which training stores a band: 1.0 down to 0.1."""
RISK = 0.1
"""Default risk: share of the remaining rewards that may be on the wrong side of 0.5."""


class Mode(StrEnum):
    """Treatment of an uncertain reward."""

    WITHHOLD = "withhold"
    SHRINK = "shrink"


class RiskBand(NamedTuple):
    """Coverage and risk of a band on labelled queries: the share of rollouts outside it, and the share of errors
    there."""

    coverage: float
    band: float
    """Half the width of the band around 0.5, 0..0.5."""
    risk: float
    error: float
    """Standard error of the risk, with queries as independent examples."""


def risk_bands(probability: FloatVector, reward: FloatVector, query: IntVector) -> list[RiskBand]:
    """Compute band and risk for falling coverages.

    Args:
        probability: float64 [N], out-of-fold predictions.
        reward: float64 [N], ground truth.
        query: int64 [N], query of each rollout.
    """
    if not len(reward):
        return []
    confidence = np.sort(np.abs(probability - 0.5))[::-1]
    wrong = (probability > 0.5) != (reward > 0.5)
    found = []
    for coverage in COVERAGES:
        band = 0.0 if coverage == 1.0 else float(confidence[max(int(np.ceil(coverage * len(reward))), 1) - 1])
        taken = np.abs(probability - 0.5) >= band
        # Half an error is added, because a few rollouts without error do not prove a risk of zero.
        cautious = (wrong[taken].sum() + 0.5) / (taken.sum() + 1.0)
        error = float(np.sqrt(cautious * (1.0 - cautious) / len(np.unique(query[taken]))))
        found.append(RiskBand(float(taken.mean()), band, float(wrong[taken].mean()), error))
    return found


def band_for(risks: Iterable[Mapping[str, float]], risk: float, model: str) -> float:
    """Choose the band with the largest coverage whose risk, plus its standard error, is at most `risk`.

    Args:
        risks: `RiskBand`s by falling coverage, as on a model's card.
        risk: share of the remaining rewards that may be on the wrong side of 0.5, 0..1.
        model: id of the model, for the message.

    Raises:
        InputError: `risk` is outside 0..1.
        ModelError: no band has this risk.
    """
    if not 0.0 <= risk <= 1.0:
        raise InputError(f"a risk must be between 0 and 1; this one is {risk:g}")
    known = [RiskBand(**one) for one in risks]
    for one in known:
        if one.risk + one.error <= risk:
            return one.band
    if not known:
        raise ModelError(
            f"model {model} has no held-out risks to choose a band by; name a band or train the model again"
        )
    least = min(known, key=lambda one: one.risk + one.error)
    raise ModelError(
        f"no band of model {model} has a risk of {risk:g}: the lowest is {least.risk:.3f} ± {least.error:.3f}, at a "
        f"coverage of {least.coverage:.0%}; choose a higher risk or name a band"
    )


class BandRow(NamedTuple):
    """A candidate band of a model, with what it did on labelled queries that the model's parts were not fitted to."""

    band: float
    """Half the width of the band around 0.5, as `--band` takes it."""
    coverage: float
    """Share of the rewards outside the band."""
    risk: float
    """Share of these that are on the wrong side of 0.5."""
    error: float
    """Standard error of the risk, with queries as independent examples."""
    smallest_risk: float
    """Smallest `--risk` that selects this band or a narrower one: risk plus standard error."""


def band_table(risks: Iterable[Mapping[str, float]]) -> list[BandRow]:
    """List the bands on a model's card, from the narrowest to the widest; bands of equal width once.

    Args:
        risks: `RiskBand`s by falling coverage, as on a model's card.
    """
    rows: dict[float, BandRow] = {}
    for one in (RiskBand(**risk) for risk in risks):
        rows.setdefault(one.band, BandRow(one.band, one.coverage, one.risk, one.error, one.risk + one.error))
    return list(rows.values())


def abstain(scores: Scores, group: IntVector, band: float, mode: Mode) -> Scores:
    """Withhold or shrink the predicted rewards inside the band.

    Args:
        group: int64 [N], group of each scored rollout.
        band: half the width of the band around 0.5, 0..0.5.

    Returns:
        The scores, in which an uncertain rollout has the reward NaN and the source `abstained`, or the mean reward of
        the scored rollouts of its group and the source `shrunk`.

    Raises:
        InputError: `band` is outside 0..0.5.
    """
    if not 0.0 <= band <= 0.5:
        raise InputError(f"a band (half the width around 0.5) must be between 0 and 0.5; this one is {band:g}")
    uncertain = (np.abs(scores.probability - 0.5) < band) & (scores.source == PREDICTED)
    if mode is Mode.WITHHOLD:
        instead, source = np.full(len(uncertain), np.nan), ABSTAINED
    else:
        _, cell = np.unique(group, return_inverse=True)
        instead = (np.bincount(cell, scores.reward) / np.maximum(np.bincount(cell), 1))[cell]
        source = SHRUNK
    sources = np.where(uncertain, source, scores.source).astype(np.object_)
    return scores._replace(reward=np.where(uncertain, instead, scores.reward), source=sources)
