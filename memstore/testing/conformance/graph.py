"""Conformance suite of graph stores, as a class of pytest tests.

    class TestMyGraph(GraphConformance):
        @pytest.fixture
        def open_graph(self, tmp_path):
            return lambda: MyGraph.open(tmp_path / "graph", create=True)

`open_graph` opens the same graph each time. `graph_labels` has the tests of labels and predictions, which this suite
includes; `graph_cypher` has the suite of Cypher.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import InputError, LabelConflict
from memstore.graph.find_queries import find_in
from memstore.graph.protocol import GraphStore, LinkUpdate
from memstore.graph.query_filter import QueryFilter
from memstore.testing.conformance.graph_blocks import (
    NOW,
    THREE,
    Rollout,
    dump,
    make_block,
    make_links,
    make_scores,
)
from memstore.testing.conformance.graph_fixtures import OpenGraph
from memstore.testing.conformance.graph_labels import GraphLabelConformance
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    EDGE_ENDS,
    NODE_COLUMNS,
    SCHEMA_VERSION,
    EdgeType,
    NodeLabel,
    edge_schema,
    node_schema,
)

Q, T, A = NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER


class GraphConformance(GraphLabelConformance):
    """Subclass it and provide `open_graph`."""

    # -- schema and settings ------------------------------------------------------------------------------------

    def test_a_new_graph_has_the_newest_schema(self, graph: GraphStore) -> None:
        graph.migrate()
        assert graph.schema_version() == SCHEMA_VERSION
        assert graph.migrate() == []

    def test_settings_are_added_overwritten_and_kept(self, opener: OpenGraph) -> None:
        with opener() as graph:
            graph.write_meta({"embedder": "a", "splitter": "1"})
            graph.write_meta({"embedder": "b"})
        with opener() as graph:
            assert {"embedder": "b", "splitter": "1"}.items() <= graph.read_meta().items()

    def test_an_empty_graph_has_typed_empty_tables(self, graph: GraphStore) -> None:
        for label in NodeLabel:
            table = graph.nodes(label, list(NODE_COLUMNS[label]))
            assert (table.num_rows, table.schema) == (0, node_schema(label))
        for edge, ends in EDGE_ENDS.items():
            for source, target in ends:
                found = graph.edges(edge, source, target)
                assert len(found) == 0
                assert found.source.dtype == found.target.dtype == np.int64
                assert found.properties.schema == edge_schema(edge)

    # -- blocks -------------------------------------------------------------------------------------------------

    def test_a_block_becomes_nodes_and_edges(self, graph: GraphStore) -> None:
        assert graph.write_block(make_block(*THREE)) == (2, 3, 0, 1)
        content = dump(graph)
        assert [row["text"] for row in content["Query"]] == ["what is q1?", "what is q2?"]
        assert [(row["id"], row["reward"]) for row in content["Thinking"]] == [("t1", 1.0), ("t2", None), ("t3", None)]
        assert content["Thinking"][0]["created_at"] == NOW
        verdict = {"verdict": 1.0, "verdict_source": "ground_truth", "verdict_at": NOW}
        assert content["Answer"] == [{"id": "q1=4", "text": "4", "value": "4", **verdict}]
        assert [(row["name"], row["policy"]) for row in content["Run"]] == [("first", "small")]
        assert [(row["id"], row["rows"]) for row in content["Batch"]] == [("batch", 3)]
        assert content["Query GENERATES Thinking"] == [("q1", "t1", {}), ("q1", "t2", {}), ("q2", "t3", {})]
        properties = {"text": "The answer is 4."}
        assert content["Thinking LEADS_TO Answer"] == [("t1", "q1=4", properties), ("t2", "q1=4", properties)]
        assert len(content["Run PRODUCED Thinking"]) == 3

    def test_a_policy_at_a_step_is_one_node(self, graph: GraphStore) -> None:
        early = (Rollout("t1", "q1", "4", step=1), Rollout("t2", "q2", run="second", step=1))
        graph.write_block(make_block(*early, Rollout("t3", "q1", "4")))
        graph.write_block(make_block(Rollout("t4", "q3", step=1), Rollout("t5", "q1", policy="large", step=1)))
        content = dump(graph)
        name_of = {row["id"]: (row["name"], row["step"]) for row in content["Policy"]}
        assert sorted(name_of.values(), key=repr) == [("large", 1), ("small", 1), ("small", None)]
        wrote = sorted((rollout, name_of[policy]) for policy, rollout, _ in content["Policy WROTE Thinking"])
        assert wrote == [
            ("t1", ("small", 1)),
            ("t2", ("small", 1)),
            ("t3", ("small", None)),
            ("t4", ("small", 1)),
            ("t5", ("large", 1)),
        ]

    def test_a_rollout_may_lack_a_policy_and_an_answer(self, graph: GraphStore) -> None:
        block = make_block(*THREE)
        nobody = block.thinkings.drop_columns(["policy_id"]).append_column("policy_id", pa.nulls(3, pa.string()))
        graph.write_block(replace(block, thinkings=nobody, policies=block.policies.slice(0, 0)))
        content = dump(graph)
        assert (content["Policy"], content["Policy WROTE Thinking"]) == ([], [])
        assert len(content["Query GENERATES Thinking"]) == 3

    def test_the_same_block_again_changes_nothing(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        assert graph.write_block(make_block(*THREE)) == (0, 0, 0, 0)
        assert dump(graph) == before

    def test_a_block_that_overlaps_adds_what_is_new(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE[:2]))
        assert graph.write_block(make_block(THREE[1], THREE[2], Rollout("t0", "q1", "5"))) == (1, 2, 0, 1)
        content = dump(graph)
        assert [row[:2] for row in content["Query GENERATES Thinking"]] == [
            ("q1", "t0"),
            ("q1", "t1"),
            ("q1", "t2"),
            ("q2", "t3"),
        ]
        assert [row[:2] for row in content["Thinking LEADS_TO Answer"]] == [
            ("t0", "q1=5"),
            ("t1", "q1=4"),
            ("t2", "q1=4"),
        ]

    def test_answers_are_read_as_rollouts_wrote_them(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t0", "q1", "5")))
        edges = graph.edges(EdgeType.LEADS_TO, T, NodeLabel.ANSWER)
        ids = graph.nodes(T, ["id"])["id"].take(pa.array(edges.source)).to_pylist()
        written = dict(zip(ids, edges.properties["text"].to_pylist(), strict=True))
        *asked, other = sorted(written)
        assert len(asked) > 1
        found = graph.answer_texts([*asked, asked[0], "nobody"]).to_pylist()
        assert {row["id"]: row["text"] for row in found} == {name: written[name] for name in asked}
        assert len(found) == len(asked)
        assert [row["id"] for row in graph.answer_texts([other]).to_pylist()] == [other]
        assert graph.answer_texts([]).to_pylist() == []

    def test_edges_of_some_nodes(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t0", "q1", "5")))
        ends = EdgeType.GENERATES, Q, T
        found = graph.edges_of(*ends, ["q1", "q1", "nobody"])
        assert sorted(map(tuple, zip(*(found[name].to_pylist() for name in found.column_names), strict=True))) == [
            ("q1", "t0"),
            ("q1", "t1"),
            ("q1", "t2"),
        ]
        assert graph.edges_of(*ends, ["t3"], by="target").to_pylist() == [{"source_id": "q2", "target_id": "t3"}]
        leads = graph.edges_of(EdgeType.LEADS_TO, T, NodeLabel.ANSWER, ["q1=4"], by="target", columns=["text"])
        assert sorted(leads["source_id"].to_pylist()) == ["t1", "t2"]
        assert leads.schema.names == ["source_id", "target_id", "text"]
        assert len(graph.edges_of(*ends, [])) == len(graph.edges_of(*ends, ["nobody"])) == 0

    def test_edges_of_the_rollouts_of_some_queries(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, Rollout("t0", "q1", "5")))
        ends = EdgeType.LEADS_TO, T, NodeLabel.ANSWER
        found = graph.edges_of(*ends, ["q1", "q1", "nobody"], by="query", columns=["text"])
        named = graph.edges_of(*ends, ["t0", "t1", "t2"], columns=["text"])
        assert found.sort_by("source_id").to_pylist() == named.sort_by("source_id").to_pylist()
        assert len(found) == 3
        assert len(graph.edges_of(*ends, ["nobody"], by="query")) == len(graph.edges_of(*ends, [], by="query")) == 0
        with pytest.raises(InputError, match="no rollout"):
            graph.edges_of(EdgeType.GENERATES, Q, T, ["q1"], by="query")

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (QueryFilter(), ["q1", "q2", "q3"]),
            (QueryFilter(labels="some"), ["q1"]),
            (QueryFilter(search="4", where="answer"), ["q1", "q3"]),
            (QueryFilter(search="4", where="answer", labels="none"), ["q3"]),
            (QueryFilter(dataset="more"), ["q2"]),
            (QueryFilter(search="q2", dataset="sums"), []),
            (QueryFilter(domain="qa"), []),
            (QueryFilter(search="nowhere", where="key"), []),
        ],
    )
    def test_queries_are_found_by_a_filter(self, graph: GraphStore, wanted: QueryFilter, expected: list[str]) -> None:
        graph.write_block(make_block(*THREE, Rollout("t4", "q3", "4"), datasets={"q2": "more"}))
        assert graph.find_queries(wanted, "", 10, timeout_s=60) == find_in(graph, wanted, "", 10) == expected
        assert graph.find_queries(wanted, "q1", 1, timeout_s=60) == [name for name in expected if name > "q1"][:1]

    def test_the_names_of_a_query_accumulate(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        whole = make_block(THREE[0])
        names = [("sums", None, None), ("more", "k", None), ("more", "k", "train"), ("more", None, None)]
        columns = zip(*(("q1", *name) for name in names), strict=True)
        aliases = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=ALIAS_SCHEMA)
        more = pa.Table.from_pylist([{"id": "d-more", "name": "more"}], schema=node_schema(NodeLabel.DATASET))
        for _ in range(2):
            graph.write_block(replace(whole, datasets=pa.concat_tables([more, whole.datasets]), aliases=aliases))
            found = graph.aliases(["q1", "nobody"])
            assert sorted(found.to_pylist(), key=repr) == sorted(aliases.to_pylist(), key=repr)
            assert len(graph.edges(EdgeType.IN, Q, NodeLabel.DATASET)) == 5
        assert sorted(graph.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()) == ["more", "sums"]

    def test_a_name_of_an_unknown_query_or_dataset_is_refused(self, graph: GraphStore) -> None:
        whole = make_block(THREE[0])
        for column, value in (("query_id", "q9"), ("dataset", "elsewhere")):
            row = {**whole.aliases.to_pylist()[0], column: value}
            with pytest.raises(InputError, match=value):
                graph.write_block(replace(whole, aliases=pa.Table.from_pylist([row], ALIAS_SCHEMA)))
        assert not any(dump(graph).values())

    def test_an_empty_block_writes_its_batch(self, graph: GraphStore) -> None:
        assert graph.write_block(make_block()) == (0, 0, 0, 0)
        assert graph.nodes(NodeLabel.BATCH, ["id"])["id"].to_pylist() == ["batch"]

    def test_nulls_are_filled_and_other_values_kept(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t1", "q1", "4", text="as it was")))
        late = Rollout("t1", "q1", "4", 0.5, source="person", text="another text")
        assert graph.write_block(make_block(late, golds={"q1": "4"})) == (0, 0, 1, 0)
        row = graph.nodes(T, ["reward", "reward_source", "text"]).to_pylist()
        assert row == [{"reward": 0.5, "reward_source": "person", "text": "as it was"}]
        assert graph.nodes(Q, ["gold"])["gold"].to_pylist() == ["4"]

    def test_a_contradicting_label_refuses_the_whole_block(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        with pytest.raises(LabelConflict, match=r"t1 .*1 .*0"):
            graph.write_block(make_block(Rollout("t1", "q1", "4", 0.0), Rollout("t9", "q9", "9", 1.0)))
        assert dump(graph) == before

    def test_replace_overwrites_labels_and_golds_but_never_with_null(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE, golds={"q1": "4", "q2": "7"}))
        changed = (Rollout("t1", "q1", "4", 0.0, source="person"), Rollout("t3", "q2"))
        assert graph.write_block(make_block(*changed, golds={"q1": "5"}), replace=True).thinkings_changed == 1
        assert graph.write_block(make_block(Rollout("t1", "q1", "4")), replace=True).thinkings_changed == 0
        assert graph.nodes(T, ["reward", "reward_source"], ids=["t1"]).to_pylist() == [
            {"reward": 0.0, "reward_source": "person"}
        ]
        assert graph.nodes(Q, ["gold"])["gold"].to_pylist() == ["5", "7"]

    def test_the_first_gold_stays(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t1", "q1"), golds={"q1": "4"}))
        graph.write_block(make_block(Rollout("t1", "q1"), golds={"q1": "5"}))
        assert graph.nodes(Q, ["gold"])["gold"].to_pylist() == ["4"]

    def test_the_same_reward_from_elsewhere_is_no_conflict(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t1", "q1", reward=0.1 + 0.2)))
        again = make_block(Rollout("t1", "q1", reward=0.1 + 0.2, source="person"))
        assert graph.write_block(again).thinkings_changed == 0
        assert graph.nodes(T, ["reward_source"])["reward_source"].to_pylist() == ["ground_truth"]
        assert graph.write_block(again, replace=True).thinkings_changed == 1
        with pytest.raises(LabelConflict):
            graph.write_block(make_block(Rollout("t1", "q1", reward=0.3)))

    def test_the_policies_of_a_run_are_united(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t1", "q1", policy="small"), Rollout("t2", "q1", policy="large")))
        graph.write_block(make_block(Rollout("t3", "q1", policy="huge")))
        assert graph.nodes(NodeLabel.RUN, ["policy"])["policy"].to_pylist() == ["huge,large,small"]

    def test_a_failure_in_the_last_step_leaves_nothing(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        with pytest.raises(InputError, match="nonsense"):
            graph.write_block(make_block(Rollout("t8", "q8", "8", 1.0), batch={"id": "b2", "nonsense": 1}))
        assert dump(graph) == before
        graph.write_block(make_block(Rollout("t8", "q8", "8", 1.0)))
        assert len(dump(graph)["Thinking"]) == 4

    @pytest.mark.parametrize("lost", ["queries", "answers", "runs", "policies"])
    def test_a_rollout_without_its_query_or_answer_is_refused(self, graph: GraphStore, lost: str) -> None:
        whole = make_block(Rollout("t1", "q1", "4"))
        with pytest.raises(InputError, match=r"q1|q1=4|first|p-"):
            graph.write_block(replace(whole, **{lost: getattr(whole, lost).slice(0, 0)}))
        assert not any(dump(graph).values())

    def test_a_block_may_refer_to_nodes_of_an_earlier_block(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        late = make_block(Rollout("t2", "q1", "4"))
        names = ("queries", "answers", "policies", "datasets", "aliases")
        graph.write_block(replace(late, **{name: getattr(late, name).slice(0, 0) for name in names}))
        assert [row[:2] for row in dump(graph)["Thinking LEADS_TO Answer"]] == [("t1", "q1=4"), ("t2", "q1=4")]

    def test_an_id_twice_in_a_block_is_refused(self, graph: GraphStore) -> None:
        with pytest.raises(InputError, match="t1"):
            graph.write_block(make_block(Rollout("t1", "q1"), Rollout("t1", "q1")))

    # -- what goes in comes out ---------------------------------------------------------------------------------

    def test_nodes_come_in_the_byte_order_of_their_ids(self, graph: GraphStore) -> None:
        ids = ["b", "B", "a", "é", "\uffee", "\U0001d11e", "'quoted'", 'a"b', "back\\slash", "$rows", "a b", "10", "9"]
        graph.write_block(make_block(*(Rollout(name, f"q {name}", name) for name in ids)))
        expected = sorted(ids, key=str.encode)
        assert graph.nodes(T, ["id"])["id"].to_pylist() == expected
        found = graph.edges(EdgeType.GENERATES, Q, T)
        assert found.source.tolist() == found.target.tolist() == list(range(len(ids)))
        assert graph.nodes(T, ["id"], ids=ids)["id"].to_pylist() == expected

    def test_some_nodes_by_id(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        table = graph.nodes(T, ["reward", "id"], ids=["t3", "t1", "nobody", "t1"])
        assert table.column_names == ["reward", "id"]
        assert table.to_pylist() == [{"reward": 1.0, "id": "t1"}, {"reward": None, "id": "t3"}]
        assert graph.nodes(T, ["id", "created_at"], ids=[]).num_rows == 0
        with pytest.raises(InputError, match="colour"):
            graph.nodes(T, ["colour"])

    @pytest.mark.parametrize(
        "text",
        ["", " ", "a\nb\r\n\tc", "Ünïcødé 数学 𝄞", 'it\'s "quoted" \\ `so`', "x" * 5_000_000, "NULL", None, "1,2;3"],
        ids=["empty", "blank", "lines", "unicode", "quotes", "5 MB", "NULL", "null", "commas"],
    )
    def test_texts_are_stored_exactly(self, graph: GraphStore, text: str | None) -> None:
        graph.write_block(make_block(Rollout("t1", "q1", text=text), Rollout("t2", "q1", text="other")))
        assert graph.nodes(T, ["text"])["text"].to_pylist() == [text, "other"]
        assert graph.nodes(T, ["text"], ids=["t1"])["text"].to_pylist() == [text]

    def test_numbers_and_times_are_stored_exactly(self, graph: GraphStore) -> None:
        block = make_block(Rollout("t1", "q1", reward=1 / 3, step=2**62, mean_logprob=-1e-300))
        local = dt.datetime(2026, 7, 1, 1, 2, 3, 999999, tzinfo=dt.timezone(dt.timedelta(hours=2)))
        graph.write_block(replace(block, batch={"id": "b", "created_at": local}))
        row = graph.nodes(T, ["reward", "step", "mean_logprob", "created_at"]).to_pylist()
        assert row == [{"reward": 1 / 3, "step": 2**62, "mean_logprob": -1e-300, "created_at": NOW}]
        assert graph.nodes(NodeLabel.BATCH, ["created_at"])["created_at"].to_pylist() == [local]

    def test_slices_of_tables_are_written_as_they_read(self, graph: GraphStore) -> None:
        whole = make_block(*(Rollout(f"t{i}", f"q{i}", str(i), text=None if i % 3 else f"text {i}") for i in range(9)))
        for start in (6, 0, 3):
            part = {
                name: getattr(whole, name).slice(start, 3) for name in ("queries", "thinkings", "answers", "aliases")
            }
            graph.write_block(replace(whole, **part, batch={"id": f"b{start}"}))
        assert graph.nodes(T, ["text"])["text"].to_pylist() == [None if i % 3 else f"text {i}" for i in range(9)]
        assert [row[:2] for row in dump(graph)["Thinking LEADS_TO Answer"]] == [
            (f"t{i}", f"q{i}={i}") for i in range(9)
        ]

    # -- links --------------------------------------------------------------------------------------------------

    def test_links_of_queries_and_of_thinkings_are_kept_apart(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.replace_links(make_links(Q, {"q1": {"q2": 0.25}, "q2": {"q1": 0.5}}))
        graph.replace_links(make_links(T, {"t1": {"t3": 1.0}}))
        graph.replace_links(make_links(Q, {"q2": {}}))
        content = dump(graph)
        assert content["Query SIMILAR_TO Query"] == [("q1", "q2", {"score": 0.25})]
        assert content["Thinking SIMILAR_TO Thinking"] == [("t1", "t3", {"score": 1.0})]
        assert graph.nodes(T, ["linked"])["linked"].to_pylist() == ["k=5", None, None]

    def test_links_of_the_sources_are_replaced_and_of_others_kept(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.replace_links(make_links(T, {"t1": {"t2": 0.1, "t3": 0.3}, "t2": {"t1": 0.1}, "t3": {"t1": 0.3}}))
        update = make_links(T, {"t1": {"t2": 0.7}, "t3": {}}, fingerprint="k=1")
        for _ in range(2):
            graph.replace_links(update)
            found = graph.edges(EdgeType.SIMILAR_TO, T, T)
            assert (found.source.tolist(), found.target.tolist()) == ([0, 1], [1, 0])
            assert found.properties["score"].to_pylist() == [np.float32(0.7), np.float32(0.1)]
        assert graph.nodes(T, ["linked"])["linked"].to_pylist() == ["k=1", "k=5", "k=1"]

    def test_edge_positions_follow_the_ids_through_inserts_and_deletions(self, graph: GraphStore) -> None:
        graph.write_block(make_block(Rollout("t5", "q1"), Rollout("t1", "q1")))
        graph.replace_links(make_links(T, {"t5": {"t1": 0.5}, "t1": {"t5": 0.5}}))
        graph.write_block(make_block(Rollout("t3", "q1"), Rollout("t0", "q0")))
        graph.replace_links(make_links(T, {"t1": {"t3": 0.9, "t0": 0.2}, "t0": {"t5": 0.4}}))
        found = graph.edges(EdgeType.SIMILAR_TO, T, T)
        assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == [(0, 3), (1, 0), (1, 2), (3, 1)]
        assert found.properties["score"].to_pylist() == [np.float32(score) for score in (0.4, 0.2, 0.9, 0.5)]

    def test_invalid_links_are_refused_as_a_whole(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.replace_links(make_links(T, {"t1": {"t2": 0.1}}))
        before = dump(graph)
        with pytest.raises(InputError):
            graph.replace_links(make_links(T, {"t1": {"t3": 0.2, "nobody": 0.9}}))
        stray = make_links(T, {"t1": {"t3": 0.2}})
        with pytest.raises(InputError, match="t1"):
            graph.replace_links(LinkUpdate(T, ["t2"], stray.edges, ["t2"], "k=5"))
        assert dump(graph) == before

    # -- closing ------------------------------------------------------------------------------------------------

    def test_everything_is_stored_when_opened_again(self, opener: OpenGraph) -> None:
        with opener() as graph:
            graph.write_block(make_block(*THREE))
            graph.checkpoint()
            graph.drop_cache()
            graph.replace_links(make_links(Q, {"q1": {"q2": 0.5}}))
            graph.append_scores(make_scores("m1", 1, {"t1": 0.5}))
            before = dump(graph)
        graph.close()
        with opener() as again:
            assert dump(again) == before
