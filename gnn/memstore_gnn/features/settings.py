"""Settings of the features that are fitted to a memory.

The values were chosen on the data sets of docs/reward_quality.md; research/reward_quality_log.md has the alternatives
and their figures. A penalty is the inverse variance of a coefficient's Gaussian prior.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuthorClusterSettings:
    """Clusters of writing style, `memstore_gnn.features.author_clusters`."""

    min_policies: int = 3
    """Policies that the median query must have; with fewer there are no clusters."""
    max_clusters: int = 16
    """Upper limit of the number of clusters, K."""
    word_buckets: int = 4096
    """Hash buckets of words in the style input."""
    sketch_directions: int = 256
    """Random sign projections of the style input, from which the principal directions are computed."""
    style_dimensions: int = 32
    """Principal directions of style that are kept."""
    whitening: float = 0.25
    """Exponent of the variance that a direction is divided by: 0 leaves the variances as they are, 0.5 makes them
    equal."""
    max_rollouts: int = 20_000
    """Rollouts that the clustering is fitted to; a larger memory is sampled by query."""
    kmeans_iterations: int = 15
    """Iterations of the constrained k-means."""
    regression_iterations: int = 5
    """Alternations of regression and assignment that follow the k-means."""
    ridge_penalty: float = 1.0
    """Penalty of the regression from style to cluster."""
    inverse_temperature: float = 6.0
    """Inverse temperature of the softmax from regression scores to memberships."""
    label_weight: float = 4.0
    """Unlabelled votes that one label counts for in the regression of the vote weights."""
    vote_penalty: float = 100.0
    """Penalty of the vote weights; 3 overfits where a cluster has few rollouts."""
    vote_weight_scale: float = 1.5
    """Factor on a cluster's vote weight before it enters the exponent of the weighted vote."""
