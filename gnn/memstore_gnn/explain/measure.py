"""Measure the influences on a score: the effect of each item, its share of the log odds, and both by node."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import NamedTuple

from memstore.progress import Progress
from memstore_gnn.explain.edges import Edge
from memstore_gnn.explain.influences import PRIOR, VERDICT, Influence, items_of
from memstore_gnn.explain.recalled import Recalled
from memstore_gnn.explain.scene import NOTHING, Removed, Scene
from memstore_gnn.explain.shares import logit_of, probability_of, shares
from memstore_gnn.scoring.declined import mean_label
from memstore_schema.columns import NodeLabel

CERTAIN = 1e-6
"""How far a verdict of 0 or 1 counts as being from it, so that its log odds are finite."""


class Measured(NamedTuple):
    """The influences on a score.

    Attributes:
        probability: the model's.
        logit: log odds of the score.
        influences: by decreasing absolute weight.
        edges: the same by node.
    """

    probability: float
    logit: float
    influences: tuple[Influence, ...]
    edges: tuple[Edge, ...]


def measure(scene: Scene, progress: Progress, recalled: Recalled | None) -> Measured:
    """Measure every item that may influence the score of a scene; `recalled` is a verdict that replaces it."""
    items = [] if scene.declined else items_of(scene)
    probability = mean_label(scene.labels) if scene.declined else scene.probability()
    progress.stage("score without each influence", len(items))
    effect = {}
    for item in items:
        effect[item] = probability - scene.probability(item.removed)
        progress.advance(1)
    weight, prior = ({}, logit_of(probability)) if scene.declined else shares(scene, items)
    found = [(item.measured(probability, probability - effect[item], weight[item]), item.removed) for item in items]
    found.append((_prior(scene, probability, prior), NOTHING))
    logit, score = logit_of(probability), probability
    if recalled is not None:
        score = recalled.verdict.value
        logit = logit_of(min(max(score, CERTAIN), 1.0 - CERTAIN))
        found.append((_verdict(recalled, probability, logit), NOTHING))
    influences = sorted((one for one, _ in found), key=lambda one: (-abs(one.weight), one.kind, one.id, one.text))
    return Measured(probability, logit, tuple(influences), _by_node(scene, probability, score, found))


def _prior(scene: Scene, probability: float, weight: float) -> Influence:
    """The prior is a term of the log odds, so the score without it is a subtraction."""
    without = probability_of(logit_of(probability) - weight)
    known = PRIOR, NodeLabel.REWARD_MODEL, scene.model.card.id, "", None, None, 0
    return Influence(*known, without, probability - without, weight)


def _verdict(recalled: Recalled, probability: float, logit: float) -> Influence:
    value, weight = recalled.verdict.value, logit - logit_of(probability)
    known = VERDICT, recalled.node, recalled.id, recalled.text, value, None, 1
    return Influence(*known, probability, value - probability, weight)


def _by_node(
    scene: Scene, probability: float, score: float, found: list[tuple[Influence, Removed]]
) -> tuple[Edge, ...]:
    """Weight and effect of each node; what one node carries is left out together."""
    nodes: dict[tuple[NodeLabel, str], list[tuple[Influence, Removed]]] = {}
    for one in found:
        nodes.setdefault((one[0].node, one[0].id), []).append(one)
    edges = []
    for (node, name), carried in nodes.items():
        kinds = {one.kind for one, _ in carried}
        removed = reduce(or_, (removed for _, removed in carried))
        without = probability if scene.declined else scene.probability(removed)
        without = probability_of(logit_of(without) - sum(one.weight for one, _ in carried if one.kind == PRIOR))
        effect = (score if VERDICT in kinds else probability) - without
        edges.append(Edge(node, name, sum(one.weight for one, _ in carried), effect))
    return tuple(sorted(edges, key=lambda edge: (-abs(edge.weight), edge.node, edge.id)))
