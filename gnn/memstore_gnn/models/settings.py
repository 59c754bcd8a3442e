"""Settings of the reward model's parts.

`NetworkSettings` and `TrainSettings` are saved on the model card and are part of the model's id. The other classes hold
values that were chosen on the data sets of docs/reward_quality.md, which lists the alternatives and their figures. A
penalty is the inverse variance of a coefficient's Gaussian prior, in the units of the coefficient: a penalty of 100
lets it move by about 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the graph network; small, because a few dozen labelled queries have to determine it."""

    hidden: int = 24
    """Width of every node state."""
    rounds: int = 2
    """Rounds of messages."""
    dropout: float = 0.1
    """Share of the hidden units of a rollout that a training step drops."""


@dataclass(frozen=True)
class TrainSettings:
    """Training of a reward model."""

    network: NetworkSettings = NetworkSettings()
    """Size of each network."""
    members: int = 5
    """Networks in the ensemble, and folds of the labelled queries."""
    epochs: int = 100
    """Training steps of each network; a step reads the labelled queries under one mask."""
    learning_rate: float = 3e-3
    """Step size of AdamW at the start; it falls linearly to zero."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    report_share: float = 0.2
    """Share of the labelled queries kept for the report if no label budget is given."""


@dataclass(frozen=True)
class MaskSettings:
    """Masks of labels and rollouts in the training of the network, `memstore_gnn.training.fit_network`."""

    masks: int = 16
    """Masks that are drawn for each data set."""
    label_free: float = 0.4
    """Share of the masks that hide all labels of the data set."""
    shown: float = 0.5
    """Largest share of the labelled queries whose verdicts a mask shows, if it shows any."""
    min_policies: int = 3
    """Policies that a mask keeps at least, if there are as many."""
    max_queries: int = 600
    """Queries of a data set that a mask reads at most."""
    min_labelled: int = 10
    """Labelled queries with votes of at least two policies that are needed to train."""
    trusts: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Values of the trusts, in the network and in plain counts, that are tried on held-out queries, besides 0."""


@dataclass(frozen=True)
class DesignSettings:
    """Inputs of the logistic regressions."""

    clip: float = 4.0
    """Standard deviations at which a standardised feature is clipped."""
    min_deviation: float = 1e-3
    """Smallest divisor of a feature, in the feature's units; reached by a feature that is constant."""
    weighted_vote_share: float = 0.75
    """Share of the reliability-weighted votes' log odds in the offset; plain votes have the rest. Half and half is
    within .005."""
    variable_penalty: float = 2.0
    """Penalty of the feature families whose usefulness differs between data sets, relative to 1 for the others."""


@dataclass(frozen=True)
class BaseSettings:
    """Hierarchical logistic regression of `memstore_gnn.models.base`."""

    strengths: tuple[float, ...] = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
    """Penalties of the features that are cross-validated and averaged, from strong to weak."""
    weakest_times_queries: float = 600.0
    """The weakest penalty that is tried is this divided by the number of labelled queries: cross-validation over eight
    queries chooses a weak penalty by chance (csqa at 5 %: .850 without this floor, .887 with it)."""
    query_weight: float = 2.0
    """Independent examples that the rollouts of one query count for; 1 and 3 are within .005."""
    intercept_penalty: float = 3.0
    """Penalty of the intercept; 0.3 is within .005."""
    vote_penalty: float = 10.0
    """Penalty of the coefficients of plain and of reliability-weighted votes, at every strength."""
    folds: int = 5
    """Folds of the cross-validation, over queries."""
    min_queries: int = 5
    """Labelled queries that a domain or data set needs for coefficients of its own."""
    cluster_vote_share: float = 0.5
    """Coefficient of the author-cluster votes that the regression is shrunk to. The full 1 is better where policies
    differ strongly in style and correctness, and slightly worse elsewhere."""
    cluster_vote_penalty: float = 0.1
    """Penalty of that coefficient, relative to 1 for the other features; few labels determine it."""
    line_penalty: float = 0.2
    """Penalty of the step lines' coefficients before standardisation, relative to 1 for the other features. 0.03 gains
    .003 in AUC where queries share steps, and costs .002 where they do not."""


@dataclass(frozen=True)
class PairSettings:
    """Weight of the features within a group, `memstore_gnn.models.pairwise`."""

    query_weight: float = 2.0
    """Independent examples that the pairs of one query count for."""
    vote_penalty: float = 10.0
    """Penalty of the votes' coefficient around 1."""
    feature_penalty: float = 0.3
    """Penalty of the features' coefficient around its expected value; 1 and 3 are within .001 in AUC."""
    min_vote_coefficient: float = 0.1
    """Smallest coefficient of the votes that the features' coefficient is divided by."""
    max_weight: float = 1.5
    """Upper bound of the weight."""
    max_pairs: int = 10_000
    """Pairs of one query at most; of more, this many are drawn."""


@dataclass(frozen=True)
class CalibrationSettings:
    """Calibration of `memstore_gnn.models.calibration`."""

    query_weight: float = 2.0
    """Independent examples that the rollouts of one query count for."""
    slope_penalty: float = 32.0
    """Penalty of the slope around 1."""
    shift_penalty: float = 8.0
    """Penalty of the shift around 0."""
    min_queries: int = 5
    """Labelled queries that a stratum needs for a slope and shift of its own."""
    min_slope: float = 0.1
    """Lower bound of the slope: calibration never reverses the order of rollouts."""


@dataclass(frozen=True)
class VoteSettings:
    """Vote model, `memstore_gnn.models.vote_model`. The values are those of the base and of the priors' usual width;
    they were not tuned."""

    query_weight: float = 2.0
    """Independent examples that the labels of one query count for."""
    prior_query_weight: float = 100.0
    """Examples that the prior's probabilities of one query count for: more than labels, which are noisy."""
    intercept_penalty: float = 3.0
    """Penalty of the intercept around 0."""
    share_penalty: float = 10.0
    """Penalty of the coefficient of the share's log odds around 1."""
    feature_penalty: float = 1.0
    """Penalty of the other coefficients around 0."""


@dataclass(frozen=True)
class PriorSettings:
    """Prior of other data sets, `memstore_gnn.models.prior`."""

    feature_penalty: float = 1000.0
    """Penalty of the features' coefficients around 0."""
    intercept_penalty: float = 1.0
    """Penalty of the intercept around 0."""
    set_weight: float = 200.0
    """Examples that a data set counts for, whatever its size."""
    min_inverse_temperature: float = 0.25
    """Lower bound of the slope of a single data set."""
    max_inverse_temperature: float = 4.0
    """Upper bound of the slope of a single data set."""
    slope_penalty: float = 1.0
    """Penalty of a data set's slope around 1 and of its shift around 0; its examples weigh `set_weight` together."""
