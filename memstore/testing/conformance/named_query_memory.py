"""The memory that the conformance suite asks the named queries of, and the result of each.

Four queries, where q1 is most similar to q2:

    q1 (sums)   t1 right, t2 right, t3 wrong, all labelled       votes 2 : 1
    q2 (sums)   t4, t5, t6 unlabelled                            votes 2 : 1; m2 scores t4 and t5, m1 scored t4 before;
                                                                  t1 and q1 moved t4, and t4 moved t5
    q3 (words)  t7 unlabelled and unscored, without an answer
    q4 (words)  t8 labelled right by a person, which m2 doubts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memstore.graph.protocol import GraphStore
from memstore.records.ids import dataset_id, policy_id
from memstore.testing.conformance.graph_blocks import (
    NOW,
    Rollout,
    make_block,
    make_influences,
    make_links,
    make_reliabilities,
    make_scores,
)
from memstore_schema.columns import NodeLabel

ROLLOUTS = (
    Rollout("t1", "q1", "4", 1.0, policy="small", step=0),
    Rollout("t2", "q1", "4", 1.0, policy="large", step=0),
    Rollout("t3", "q1", "5", 0.0, policy="small", step=0),
    Rollout("t4", "q2", "7", policy="small", step=1),
    Rollout("t5", "q2", "7", policy="small", step=1),
    Rollout("t6", "q2", "8", policy="small", step=1),
    Rollout("t7", "q3", policy="small"),
    Rollout("t8", "q4", "yes", 1.0, "person", policy="small"),
)
DATASETS = {"q1": "sums", "q2": "sums", "q3": "words", "q4": "words"}

ANSWERS: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "why": (
        {"rollout": "t4"},
        [
            ("m1", 1, 0.5, 0.5, 0.25, "a labelled rollout", "t1", 1.0, "ground_truth", 0, None, 0.75, "4"),
            ("m2", 5, -0.546875, -0.5, -0.25, "a labelled rollout", "t1", 1.0, "ground_truth", 0, None, 0.75, "4"),
            (
                "m2",
                5,
                -0.546875,
                -0.25,
                -0.125,
                "a labelled query",
                "q1",
                2 / 3,
                None,
                None,
                None,
                0.875,
                "what is q1?",
            ),
            ("m2", 5, -0.546875, 0.125, 0.0625, "an answer", "q1=4", 1.0, "ground_truth", None, None, None, "4"),
            ("m2", 5, -0.546875, 0.0625, 0.03125, "the model", "m2", None, None, None, None, None, None),
            (
                "m2",
                5,
                -0.546875,
                0.015625,
                0.0078125,
                "a policy",
                policy_id("small", 1),
                None,
                None,
                1,
                0.75,
                None,
                "small",
            ),
        ],
    ),
    "propagation": (
        {"node": "q1"},
        [
            (1, "t1", "t4", 0.5, 0.25, "7", "what is q2?", "m1"),
            (1, "t1", "t4", -0.5, -0.25, "7", "what is q2?", "m2"),
            (1, "q1", "t4", -0.25, -0.125, "7", "what is q2?", "m2"),
            (2, "t4", "t5", 0.25, 0.125, "7", "what is q2?", "m2"),
        ],
    ),
    "disagreements": (
        {"margin": 0.5},
        [("t8", "q4", "words", "small", 1.0, 0.125, "m2", 0.875)],
    ),
    "split-groups": (
        {},
        [("q1", "sums", "what is q1?", 3, 2, 2 / 3), ("q2", "sums", "what is q2?", 3, 2, 2 / 3)],
    ),
    "far-from-labels": (
        {},
        [("q3", "words", "what is q3?", 1, 0, 0.0), ("q2", "sums", "what is q2?", 3, 1, 0.875)],
    ),
    "votes": (
        {},
        [
            ("q1", "sums", "4", 2, 1.0, None),
            ("q1", "sums", "5", 1, 0.0, None),
            ("q2", "sums", "7", 2, None, 0.75),
            ("q2", "sums", "8", 1, None, None),
            ("q4", "words", "yes", 1, 1.0, 0.125),
        ],
    ),
    "positive-rate": (
        {},
        [
            ("sums", "large", 0, 1, 1.0, 1.0),
            ("sums", "small", 0, 2, 0.5, 0.5),
            ("words", "small", None, 1, 1.0, 1.0),
        ],
    ),
    "reward-by-step": (
        {"run": "first", "steps": 2},
        [("first", 0, "ground_truth", 3, 2 / 3), ("first", 0, "predicted", 2, 0.75), ("first", 0, "unscored", 1, None)],
    ),
    "unscored": ({}, [("sums", 1, 1), ("words", 1, 1)]),
    "models": ({}, [("m1", 1, None, 2, 0.625), ("m2", 2, None, 3, 1.625 / 3)]),
    "duplicates": ({"threshold": 0.5}, [("q2", "q1", "sums", 0.875, "what is q2?", "what is q1?")]),
    "labelled": ({}, [("sums", 2, 1, 0.5, 6, 3), ("words", 2, 1, 0.5, 2, 1)]),
    "remembered": (
        {},
        [
            ("q1", "what is q1?", "4", 1.0, "ground_truth", NOW, 2),
            ("q1", "what is q1?", "5", 0.0, "ground_truth", NOW, 1),
            ("q4", "what is q4?", "yes", 1.0, "person", NOW, 1),
        ],
    ),
    "reliability": (
        {},
        [
            ("small", 1, "sums", 0.75, 0.375, 0.875, 8, 2),
            ("large", 0, "sums", 0.5, 0.25, 0.75, 8, 2),
            ("small", None, "words", 0.5, 0.25, 0.75, 8, 2),
            ("small", 0, "sums", 0.5, 0.25, 0.75, 8, 2),
        ],
    ),
    "history": (
        {},
        [
            ("q1", "first", 0, 3, 2, "4", 3, 2 / 3, None),
            ("q2", "first", 1, 3, 2, "7", 0, None, 0.75),
            ("q3", "first", None, 1, 0, None, 0, None, None),
            ("q4", "first", None, 1, 1, "yes", 1, 1.0, 0.125),
        ],
    ),
}


def fill(graph: GraphStore, rollouts: Sequence[Rollout] = ROLLOUTS) -> None:
    """Write the memory of the named queries, one rollout at a time."""
    for rollout in rollouts:
        graph.write_block(make_block(rollout, datasets=DATASETS))
    graph.replace_links(make_links(NodeLabel.QUERY, {"q2": {"q1": 0.875, "q3": 0.25}, "q3": {"q2": 0.25}}))
    graph.replace_links(make_links(NodeLabel.THINKING, {"t4": {"t1": 0.75, "t3": 0.25, "t7": 0.5}}))
    graph.append_scores(make_scores("m1", 1, {"t4": 0.25, "t8": 1.0}))
    graph.append_scores(make_scores("m2", 2, {"t4": 0.875, "t5": 0.625, "t8": 0.125}))
    graph.replace_influences(make_influences("m1", {"t4": {"t1": 0.5}}))
    known = (
        ("small", 1, "sums", 0.75),
        ("small", 0, "sums", 0.5),
        ("large", 0, "sums", 0.5),
        ("small", None, "words", 0.5),
    )
    graph.replace_reliabilities(
        make_reliabilities({(policy_id(name, step), dataset_id(data)): value for name, step, data, value in known})
    )
    moved = {"t1": -0.5, "q1": -0.25, "q1=4": 0.125, "m2": 0.0625, policy_id("small", 1): 0.015625}
    graph.replace_influences(make_influences("m2", {"t4": moved, "t5": {"t4": 0.25}}))
