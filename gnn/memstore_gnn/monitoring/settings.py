"""Settings of drift detection.

docs/models.md describes the warning; `benchmarks/model_limits.py` prints how often it is given within a data set and
between two.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DriftSettings:
    """Drift of features, `memstore_gnn.monitoring.drift`."""

    min_shift: float = 0.5
    """Least shift of a drifted feature, in standard deviations between queries."""
    min_errors: float = 6.0
    """Least shift of a drifted feature, in standard errors."""
    clip: float = 4.0
    """Standard deviations to which one query is clipped."""
    extra_variance: float = 0.05
    """Added to the variance of a feature, divided by the number of training queries."""
    small_reference: float = 5.0
    """Number of training queries at which twice `min_errors` is required."""
    principal_directions: int = 8
    """Principal directions of the query vectors that are compared."""
    min_dataset_queries: int = 10
    """Training queries that a dataset needs to be compared with itself."""


@dataclass(frozen=True)
class AgreementSettings:
    """Change of agreement and answers, `memstore_gnn.monitoring.agreement`."""

    drawn: int = 4
    """Rollouts of one draw. Model files store outcomes of draws of four."""
    min_index: float = 0.25
    """Population stability index of a large change, by convention."""
    random_splits: int = 999
    """Random splits that a change is compared with."""
    max_queries: int = 256
    """Queries of a set that are compared at most."""
