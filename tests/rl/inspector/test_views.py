"""What the pages show, read from a memory and from its snapshot alike."""

from __future__ import annotations

import pytest

from memstore.errors import InputError
from memstore.graph.query_filter import QueryFilter
from memstore.memory import Memory
from memstore_rl.inspector.drawing import draw_nodes
from memstore_rl.inspector.source import SnapshotSource, Source
from memstore_rl.inspector.views import queries
from memstore_rl.inspector.views.cypher import Asked, cypher_page, ids_in
from memstore_rl.inspector.views.group import NO_ANSWER, Group, group_sheet
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.overview import overview
from memstore_rl.inspector.views.policy import policy_page
from memstore_rl.inspector.views.queries import page_of_id, query_list
from memstore_rl.inspector.views.rollout import rollout_page, whole_text
from memstore_schema.columns import NodeLabel

from .conftest import MODEL, SCRIPT, query_with


def test_the_memory_at_a_glance(source: Source) -> None:
    memory = overview(source)
    assert dict(memory.counts) == {"queries": 5, "rollouts": 30, "answers": 15, "policies": 4, "runs": 1}
    assert (memory.labelled_queries, memory.labelled_rollouts, memory.predicted_rollouts) == (2, 12, 30)
    apples = memory.datasets[0]
    assert (apples.name, apples.queries, apples.labelled_queries, apples.rollouts) == ("apples", 3, 1, 18)
    assert (apples.labelled, apples.positive) == (6, 4)
    run = memory.runs[0]
    assert (run.run, run.policy, run.rollouts, run.steps) == ("first", "small", 24, (0, 1))
    assert run.reward == pytest.approx(4 / 6)
    assert run.predicted == pytest.approx(0.9)
    [model] = memory.models
    assert (model.id, model.scored, model.in_use, model.metrics) == (MODEL, 30, True, {"auc": 0.91})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (QueryFilter(), 5),
        (QueryFilter("mia HAS"), 3),
        (QueryFilter("key-1", "key"), 1),
        (QueryFilter("key", "key"), 5),
        (QueryFilter("10", "answer"), 1),
        (QueryFilter("1", "answer"), 0),  # an answer is found as a whole
        (QueryFilter(dataset="apples"), 3),
        (QueryFilter(domain="other"), 1),
        (QueryFilter(labels="some"), 2),
        (QueryFilter("Mia", dataset="apples", domain="math", labels="none"), 2),
        (QueryFilter("' OR 1=1 //"), 0),
        (QueryFilter(SCRIPT), 1),
    ],
)
def test_searches_and_filters(source: Source, wanted: QueryFilter, found: int) -> None:
    assert len(query_list(source, wanted).lines) == found


def test_lists_are_paged_by_key(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = query_list(source, QueryFilter(), after)
        seen += [line.id for line in page.lines]
        after = page.after
    assert len(seen) == 5
    assert seen == sorted(set(seen))


def test_a_line_sums_up_a_query(source: Source) -> None:
    [line] = query_list(source, QueryFilter("key-0", "key")).lines
    assert (line.rollouts, line.answers, line.labelled, line.keys) == (6, 3, 6, ("key-0",))
    assert line.top_share == pytest.approx(4 / 6)
    assert line.right == pytest.approx(4 / 6)


def test_ids_lead_to_their_pages(source: Source, looked_at: Memory) -> None:
    for label, page in ((NodeLabel.QUERY, "query"), (NodeLabel.THINKING, "rollout"), (NodeLabel.ANSWER, "answer")):
        name = looked_at.graph.nodes(label, ["id"])["id"][0].as_py()
        assert page_of_id(source, name) == f"{page}/{name}"
    assert page_of_id(source, "t-shirts cost 5") is None


def test_a_sheet_has_answers_as_columns(source: Source, looked_at: Memory) -> None:
    sheet = group_sheet(source, query_with(looked_at, "Mia has 3"))
    first, *others = sheet.columns
    assert (first.text, first.votes, first.verdict) == ("6", 4, 1.0)
    assert first.share == pytest.approx(4 / 6)
    assert first.probability == pytest.approx(0.9)
    assert [(column.text, column.votes, column.verdict) for column in others] == [("7", 1, 0.0), ("9", 1, 0.0)]
    assert [cell.is_central for cell in first.rollouts] == [True, False, False, False]
    assert all(cell.changes for cell in first.rollouts[1:])
    assert [piece.label for piece in first.evidence] == [NodeLabel.ANSWER, NodeLabel.REWARD_MODEL, NodeLabel.QUERY]
    assert [piece.weight for piece in first.evidence] == [1.5, 0.5, -0.25]
    assert [(group.step, group.rollouts) for group in sheet.groups] == [(0, 3), (1, 3)]


def test_a_sheet_of_one_group_and_of_one_answer(source: Source, looked_at: Memory) -> None:
    query = query_with(looked_at, "Mia has 4")
    group = Group("small", "first", 1)
    sheet = group_sheet(source, query, group)
    assert (sheet.rollouts, sum(column.votes for column in sheet.columns)) == (3, 3)
    assert sheet.chosen is not None
    [eight] = group_sheet(source, query, answer=sheet.columns[0].name).columns
    assert (eight.text, len(eight.rollouts)) == ("8", 4)
    last = max(cell.id for cell in eight.rollouts)
    assert group_sheet(source, query, answer=eight.name, after=last).columns[0].rollouts == ()


def test_what_is_not_there(source: Source, looked_at: Memory) -> None:
    query = query_with(looked_at, "Mia has 4")
    with pytest.raises(NotThere, match="no query q-1"):
        group_sheet(source, "q-1")
    with pytest.raises(NotThere, match="policy, run and step"):
        group_sheet(source, query, Group("nobody", None, None))
    with pytest.raises(NotThere, match="with the answer none"):
        group_sheet(source, query, answer=NO_ANSWER)
    with pytest.raises(NotThere, match="no rollout t-1"):
        rollout_page(source, "t-1")
    with pytest.raises(NotThere, match="no policy p-1"):
        policy_page(source, "p-1")


def test_a_rollout_with_its_scores_and_evidence(source: Source, looked_at: Memory) -> None:
    query = query_with(looked_at, "Mia has 5")
    cell = group_sheet(source, query).columns[0].rollouts[0]
    page = rollout_page(source, cell.id)
    assert (page.query, page.facts["policy"], page.written.text) == (query, "small", "10")
    assert [(score.model, score.probability) for score in page.scores] == [(MODEL, 0.9)]
    assert len(page.evidence) == 3
    assert whole_text(source, cell.id).startswith("We add both.")


def test_cypher(looked_at: Memory, source: Source) -> None:
    page = cypher_page(source, Asked("MATCH (q:Query) RETURN q.id AS id, 1.5 AS x, null AS y ORDER BY id LIMIT 2"))
    if source.read_only:
        assert "memstore restore" in str(page.failure)
        return
    assert page.columns == ("id", "x", "y")
    identity, number, null = page.rows[0]
    assert (identity.page, number.number, null.null) == (f"query/{identity.text}", True, True)
    refused = str(cypher_page(source, Asked("CREATE (:Query {id: 'q-x'})")).failure)
    assert "these pages only read" in refused
    assert "write=True" not in refused
    assert cypher_page(source, Asked("MATCH (q:Query) RETURN q.id", "[]")).failure is not None
    assert not cypher_page(source, Asked("RETURN 1", run=False)).ran
    votes = cypher_page(source, Asked(named="votes", draw=True))
    assert votes.rows
    assert votes.drawing is not None
    assert {node.label for node in votes.drawing.nodes} == {NodeLabel.QUERY}


def test_a_drawing_has_the_edges_between_its_nodes(looked_at: Memory, source: Source) -> None:
    sheet = group_sheet(source, query_with(looked_at, "1 + 1"))
    column = sheet.columns[0]
    ids = ids_in([[sheet.id, [cell.id for cell in column.rollouts], {"a": column.answer}]])
    drawing = draw_nodes(source, ids)
    found = sorted({str(edge.edge) for edge in drawing.edges})
    assert len(drawing.nodes) == 6
    assert {"GENERATES", "LEADS_TO", "INFLUENCED_BY"} <= set(found)
    assert SCRIPT not in drawing.svg("/inspect")


def test_a_snapshot_without_texts_is_refused(looked_at: Memory) -> None:
    with pytest.raises(InputError, match="without texts"):
        SnapshotSource(looked_at.snapshot(texts=False), "x")
