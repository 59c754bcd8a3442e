"""Conformance of graph stores: predictions, labels, the verdicts that follow from them, and batches."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from memstore.errors import InputError, LabelConflict
from memstore.graph.protocol import GraphStore
from memstore.graph.verdicts import VERDICT_COLUMNS
from memstore.records.ids import dataset_id, policy_id
from memstore.testing.conformance.graph_blocks import (
    NOW,
    THREE,
    Rollout,
    dump,
    make_block,
    make_influences,
    make_labels,
    make_reliabilities,
    make_scores,
)
from memstore.testing.conformance.graph_fixtures import GraphFixtures
from memstore_schema.columns import NODE_COLUMNS, EdgeType, NodeLabel

Q, T, A = NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER


class GraphLabelConformance(GraphFixtures):
    """Part of `memstore.testing.conformance.graph.GraphConformance`."""

    def test_scores_can_replace_those_of_the_same_model(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        for model in ("m1", "m2"):
            graph.append_scores(make_scores(model, 1, {"t1": 0.25, "t2": 0.5}))
        graph.append_scores(replace(make_scores("m1", 1, {"t1": 0.75, "t3": 1.0}), replace=True))
        scores = dump(graph)["Thinking SCORED_BY RewardModel"]
        assert [(a, m, properties["probability"]) for a, m, properties in scores] == [
            ("t1", "m1", 0.75),
            ("t1", "m2", 0.25),
            ("t2", "m1", 0.5),
            ("t2", "m2", 0.5),
            ("t3", "m1", 1.0),
        ]

    def test_scores_are_appended_and_never_overwritten(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.append_scores(make_scores("m1", 1, {"t1": 0.25}))
        graph.append_scores(make_scores("m1", 7, {"t1": 0.75, "t2": 0.5}))
        graph.append_scores(make_scores("m2", 2, {"t1": 0.125}))
        content = dump(graph)
        assert [(row["id"], row["version"]) for row in content["RewardModel"]] == [("m1", 1), ("m2", 2)]
        assert [
            (a, m, properties["probability"]) for a, m, properties in content["Thinking SCORED_BY RewardModel"]
        ] == [
            ("t1", "m1", 0.25),
            ("t1", "m2", 0.125),
            ("t2", "m1", 0.5),
        ]
        assert content["Thinking SCORED_BY RewardModel"][0][2]["scored_at"] == NOW
        graph.append_scores(make_scores("m2", 2, {"t1": 0.125}))
        assert dump(graph) == content

    def test_a_score_says_whether_it_is_remembered(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        batch = make_scores("m1", 1, {"t2": 1.0, "t3": 0.5})
        source = pa.array(["remembered", "predicted"], pa.string())
        graph.append_scores(replace(batch, scores=batch.scores.append_column("source", source)))
        found = graph.edges(EdgeType.SCORED_BY, T, NodeLabel.REWARD_MODEL)
        assert found.properties["source"].to_pylist() == ["remembered", "predicted"]
        some = graph.edges(EdgeType.SCORED_BY, T, NodeLabel.REWARD_MODEL, ["reward", "probability"])
        assert some.properties.column_names == ["reward", "probability"]
        assert some.properties["probability"].to_pylist() == [1.0, 0.5]

    def test_scores_of_an_unknown_rollout_write_nothing(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        with pytest.raises(InputError, match="nobody"):
            graph.append_scores(make_scores("m1", 1, {"t1": 0.25, "nobody": 0.5}))
        assert dump(graph) == before

    def test_influences_of_a_rollout_and_a_model_are_replaced(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.replace_influences(make_influences("m1", {"t3": {"t1": 0.5, "q1": -0.25}, "t2": {"t1": 0.125}}))
        graph.replace_influences(make_influences("m2", {"t3": {"t1": 0.75}}))
        for _ in range(2):
            graph.replace_influences(make_influences("m1", {"t3": {"t1": 0.0625, "t2": 0.25}}))
            content = dump(graph)
            assert content["Thinking INFLUENCED_BY Query"] == []
            assert sorted(
                (a, b, *properties.values()) for a, b, properties in content["Thinking INFLUENCED_BY Thinking"]
            ) == [
                ("t2", "t1", 0.125, 0.0625, "m1"),
                ("t3", "t1", 0.0625, 0.03125, "m1"),
                ("t3", "t1", 0.75, 0.375, "m2"),
                ("t3", "t2", 0.25, 0.125, "m1"),
            ]
        for wrong in ({"t3": {"t9": 0.5}}, {"t9": {"t1": 0.5}}, {"t1": {"q9": 0.5}}, {"t1": {"q9=4": 0.5}}):
            with pytest.raises(InputError, match="9"):
                graph.replace_influences(make_influences("m1", wrong))
        assert dump(graph) == content

    def test_nodes_of_every_kind_can_influence_a_score(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.append_scores(make_scores("m1", 1, {"t3": 0.25}))
        [policy] = graph.nodes(NodeLabel.POLICY, ["id"])["id"].to_pylist()
        everything = {"q1": 0.5, "t1": 0.25, "q1=4": -0.5, policy: 0.125, "m1": -2.0}
        graph.replace_influences(make_influences("m1", {"t3": everything}))
        content = dump(graph)
        for label, target in zip((Q, T, A, NodeLabel.POLICY, NodeLabel.REWARD_MODEL), everything, strict=True):
            weight = everything[target]
            properties = {"weight": weight, "effect": weight / 2, "model": "m1"}
            assert content[f"Thinking INFLUENCED_BY {label}"] == [("t3", target, properties)]
        graph.replace_influences(make_influences("m1", {"t3": {}}))
        assert not any(found for name, found in dump(graph).items() if "INFLUENCED_BY" in name)

    def test_the_reliabilities_of_policies_are_replaced(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t4", "q1", policy="large"), datasets={"q2": "words"}))
        dump_of_edges = "Policy RELIABLE_IN Dataset"
        small, large = policy_id("small", None), policy_id("large", None)
        sums, words = dataset_id("sums"), dataset_id("words")
        graph.replace_reliabilities(make_reliabilities({(small, sums): 0.5, (small, words): 0.75, (large, sums): 0.25}))
        assert len(dump(graph)[dump_of_edges]) == 3
        for _ in range(2):
            graph.replace_reliabilities(make_reliabilities({(small, words): 0.625}))
            content = dump(graph)
            properties = {"reliability": 0.625, "low": 0.3125, "high": 0.8125, "votes": 8, "judged": 2}
            assert content[dump_of_edges] == [(small, words, {**properties, "estimated_at": NOW})]
        for wrong in ((small, "d-nothing"), ("p-nobody", sums)):
            with pytest.raises(InputError, match="-no"):
                graph.replace_reliabilities(make_reliabilities({(large, sums): 0.5, wrong: 0.5}))
        assert dump(graph) == content
        graph.replace_reliabilities(make_reliabilities({}))
        assert dump(graph)[dump_of_edges] == []

    def test_labels_are_set_once_and_replaced_on_request(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        assert graph.set_labels(make_labels({"t1": 1.0, "t2": 0.25})) == 1
        assert graph.set_labels(make_labels({"t1": 1.0, "t2": 0.25})) == 0
        with pytest.raises(LabelConflict, match="t1"):
            graph.set_labels(make_labels({"t1": 0.0, "t3": 1.0}))
        assert graph.set_labels(make_labels({"t1": 0.0, "t2": 0.25}), replace=True) == 1
        assert graph.nodes(T, ["reward"])["reward"].to_pylist() == [0.0, 0.25, None]

    @pytest.mark.parametrize("wrong", [{"t1": 1.0, "nobody": 1.0}, {"t1": 1.5}, {"t1": float("nan")}, {"t1": None}])
    def test_labels_that_cannot_be_set_change_nothing(self, graph: GraphStore, wrong: dict[str, float | None]) -> None:
        graph.write_block(make_block(Rollout("t1", "q1")))
        with pytest.raises(InputError):
            graph.set_labels(make_labels(wrong), replace=True)
        assert graph.nodes(T, ["reward"])["reward"].to_pylist() == [None]

    def test_verdicts_follow_the_labels_of_an_answer(self, graph: GraphStore) -> None:
        """Wherever a label changes, the verdict changes with it."""
        graph.write_block(make_block(*THREE[1:]))
        assert verdicts(graph) == {"q1=4": None}
        graph.write_block(make_block(*THREE))  # a labelled rollout of an answer that is there
        assert verdicts(graph) == {"q1=4": (1.0, "ground_truth")}
        graph.write_block(make_block(Rollout("t4", "q1", "5", 0.0), Rollout("t5", "q1", "5", 0.25)))  # a new answer
        assert verdicts(graph) == {"q1=4": (1.0, "ground_truth"), "q1=5": (0.125, "ground_truth")}
        graph.set_labels(make_labels({"t4": 1.0}), replace=True)  # the two labels contradict each other
        assert verdicts(graph) == {"q1=4": (1.0, "ground_truth"), "q1=5": None}
        graph.write_block(make_block(Rollout("t6", "q1", "5", 1.0, "person")))
        assert verdicts(graph)["q1=5"] == (1.0, "person")
        graph.write_block(make_block(Rollout("t1", "q1", "4", 0.0, "person")), replace=True)
        assert verdicts(graph)["q1=4"] == (0.0, "person")
        graph.clear_labels(["t1", "t6", "t3"])
        assert verdicts(graph) == {"q1=4": None, "q1=5": None}
        graph.clear_labels(["t4"])
        assert verdicts(graph)["q1=5"] == (0.25, "ground_truth")

    def test_the_verdicts_of_a_block_are_not_read(self, graph: GraphStore) -> None:
        block = make_block(*THREE)
        told = block.answers.drop_columns(["verdict"]).append_column("verdict", pa.array([0.0]))
        graph.write_block(replace(block, answers=told))
        assert verdicts(graph) == {"q1=4": (1.0, "ground_truth")}

    def test_a_refused_label_leaves_the_verdict(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t4", "q2", "7")))
        with pytest.raises(LabelConflict):
            graph.set_labels(make_labels({"t4": 1.0, "t1": 0.0}))
        with pytest.raises(InputError, match="nobody"):
            graph.clear_labels(["t1", "nobody"])
        assert verdicts(graph) == {"q1=4": (1.0, "ground_truth"), "q2=7": None}

    def test_verdicts_are_derived_again_on_request(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t4", "q2", "7")))
        before = dump(graph)
        graph.refresh_verdicts(["q1=4", "q2=7"])
        graph.refresh_verdicts([])
        assert dump(graph) == before
        with pytest.raises(InputError, match="q9=9"):
            graph.refresh_verdicts(["q1=4", "q9=9"])

    def test_a_batch_keeps_properties_that_are_not_given(self, graph: GraphStore) -> None:
        graph.write_batch({"id": "b", "source": "a.jsonl", "rows": 3, "created_at": NOW})
        graph.write_batch({"id": "b", "state": "done"})
        assert graph.nodes(NodeLabel.BATCH, list(NODE_COLUMNS[NodeLabel.BATCH])).to_pylist() == [
            {"id": "b", "source": "a.jsonl", "state": "done", "rows": 3, "rejected": None, "created_at": NOW}
        ]
        with pytest.raises(InputError, match="colour"):
            graph.write_batch({"id": "b", "colour": "red"})


def verdicts(graph: GraphStore) -> dict[str, tuple[float, str] | None]:
    """Verdict and source by answer; None without a verdict, which has no time either."""
    rows = graph.nodes(A, ["id", *VERDICT_COLUMNS]).to_pylist()
    found = {row.pop("id"): tuple(row.values()) for row in rows}
    assert all(values == (None, None, None) or values[2] == NOW for values in found.values())
    return {answer: None if values[0] is None else values[:2] for answer, values in found.items()}
