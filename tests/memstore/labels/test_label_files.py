"""Files of labels: CSV, JSON lines and JSON of Label Studio, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import audit_positions, mark_audit
from memstore.labels.export import export_labels
from memstore.labels.files import read_labels
from memstore.labels.label_studio import NONE, annotation, choice_names, task, verdicts_of_tasks
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel
from tests.memstore.labels.conftest import CODE, SUM
from tests.memstore.labels.test_label_answers import labels


def test_rows_of_csv_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('query,answer,reward\nsum,4,right\nsum,"5",wrong\nsum,6,\nsum,,0\n')
    rows = [
        {"query_id": "sum", "query": "text", "answer": 4, "reward": True},
        {"query": "x", "answer": "5", "reward": 0.5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    csv = read_labels(tmp_path / "a.csv")
    assert [row[:3] for row in csv.answers] == [
        ("sum", "4", 1.0),
        ("sum", "5", 0.0),
        ("sum", "6", None),
        ("sum", None, 0.0),
    ]
    assert csv.answers[1].where == f"{tmp_path / 'a.csv'}:3: "
    found = read_labels(tmp_path / "a.jsonl")
    assert [row[:3] for row in found.answers] == [("sum", "4", 1.0), ("x", "5", 0.5)]


def with_result(*parts: Any) -> str:
    return json.dumps([{"data": {"query_id": "sum", "query": SUM}, "annotations": [{"result": list(parts)}]}])


BAD = {
    "both kinds in a row": ('{"id": "t-1", "query": "q", "answer": "4", "reward": 1}', ":1: a row labels a rollout"),
    "both kinds in a file": ("id,query,answer,reward\nt-1,,,1\n,sum,4,1\n", ":3: the file labels both rollouts"),
    "no answer": (
        '{"query": "sum", "reward": 1}',
        ":1: a verdict on an answer needs `query`, `answer` and `reward`",
    ),
    "no reward": ('{"id": "t-1"}', ":1: a row needs `id` and `reward`, but has id"),
    "no column of answers": ("query,reward\nsum,1\n", ":1: the header has query, reward; it needs the columns id and"),
    "no column of rewards": ("id\nt-1\n", ":1: the header has id; it needs the columns id and reward"),
    "a column twice": ("id,reward,reward\nt-1,0,1\n", ":1: the header has the column reward twice"),
    "a field too many": (
        "query,answer,reward\nsum,4,1\nsum,1,000,1\n",
        ":3: the row has 4 fields and the header has 3; quote fields that have commas",
    ),
    "a field too few": ("query;reward;answer\nsum;0\n", ":2: the row has 2 fields and the header has 3; quote"),
    "an open quote": ('query,answer,reward\nsum,"4,1\n', "is not CSV (unexpected end of data); quote fields"),
    "cut off after the comma": ("query,answer,reward\nsum,5,0\nsum,4,", ":3: the last row has an empty field"),
    "cut off in the answer": ("query,reward,answer\nsum,,4", ":2: the last row has an empty field"),
    "another split": ("query,answer,reward,split\nsum,4,1,train\n", ":2: the split is 'train'; write audit"),
    "another split of a task": (
        '[{"data": {"query": "x", "split": "test"}, "annotations": [{}]}]',
        "task 1: the split is 'test'; write audit",
    ),
    "ids of answers are no object": (
        '[{"data": {"query": "x", "answer_ids": ["a-1"]}, "annotations": [{}]}]',
        "task 1: `answer_ids` of its data is not an object",
    ),
    "a partial reward above 1": (
        '[{"data": {"query": "x", "answer_ids": {"4": "a-1"}, "rewards": {"a-1": 7}}, "annotations": '
        '[{"result": [{"from_name": "right", "value": {"choices": ["4"]}}]}]}]',
        "task 1: the reward of a-1 is 7; it must lie between 0 and 1",
    ),
    "reward is a word": ("id,reward\nt-1,good\n", ":2: the reward is 'good'; pass a number"),
    "reward is too large": ("query,answer,reward\nsum,4,2\n", ":2: the reward is 2; it must lie between 0 and 1"),
    "unfilled": ("query,answer,reward\nsum,,\n", ":2: `answer` and `reward` are both empty; fill them in"),
    "empty": ("id,reward\n", "has no labels; it needs the columns"),
    "nested too deep": ('{"id": "t-1", "reward": ' + "[" * 100_000, ":1: not JSON (it is nested too deep)"),
    "tasks nested too deep": ("[" * 100_000, "is not JSON of Label Studio (it is nested too deep)"),
    "a key twice": ('{"id": "t-1", "reward": 0, "reward": 1}', ":1: not JSON (the key 'reward' is there twice; remove"),
    "half of a pair": ('{"query": "\\ud800", "answer": "4", "reward": 1}', ":1: not JSON (a text has half"),
    "half of a pair in a task": ('[{"data": {"query_id": "\\ud800"}}]', "(a text has half of a surrogate pair"),
    "reward has 400 digits": ('{"id": "t-1", "reward": ' + "9" * 400 + "}", ":1: the reward is too large; it must lie"),
    "only blank lines": ("\n \n", "has no labels; it needs the columns"),
    "not JSON": ('{"id": "t-1", "reward": 1}\n{"id"\n', ":2: not JSON"),
    "broken JSON of Label Studio": ('[{"data": ', "is not JSON of Label Studio"),
    "not a task": ("[1]", "task 1: its data have neither"),
    "no query": ('[{"data": {"text": "x"}}]', "task 1: its data have neither `query_id` nor `query`"),
    "annotations are no list": ('[{"data": {"query": "x"}, "annotations": {"a": 1}}]', "task 1: `annotations` is not"),
    "no annotation": ('[{"data": {"query": "x"}}]', "has no annotation with a choice"),
    "no list of choices": (with_result({"from_name": "right", "value": {"text": "4"}}), "has no list of choices"),
    "none is wrong": (
        with_result({"from_name": "wrong", "value": {"choices": [NONE]}}),
        "'none of these' is chosen as wrong, which judges no answer",
    ),
    "none and an answer": (
        with_result({"from_name": "right", "value": {"choices": [NONE, "4"]}}),
        "both 'none of these' and an answer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / "labels").write_text(content)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "labels")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "none.csv")


def test_label_studio_choices_become_verdicts(tmp_path: Path) -> None:
    cancelled = annotation(["5"], []) | {"was_cancelled": True}
    tasks = [
        task("sum", SUM, {"a-1": "4", "a-2": "5"}) | {"annotations": [annotation(["4"], ["5"], "ana"), cancelled]},
        task("product", "", {"a-3": "9"}) | {"annotations": [annotation([NONE], [])]},
        task("code", CODE, {"a-4": "a"}) | {"annotations": []},
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert [row[:3] for row in read_labels(tmp_path / "tasks.json").answers] == [
        ("sum", "4", 1.0),
        ("sum", "5", 0.0),
        ("product", None, 0.0),
    ]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_an_export_labels_a_copy_alike(memory: Memory, tmp_path: Path, name: str) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    memory.label_answers([AnswerVerdict("code", "def f():\n    return 3", 0.0)], by="bo")
    memory.label_answers([AnswerVerdict("product", "6", 0.0)])
    done = export_labels(memory.stores, tmp_path / name)
    assert (done.queries, done.answers, done.left_out) == (3, 5, 1)  # the rollout without an answer is left out
    with Memory.open(tmp_path / "copy", create=True, embedder=HashEmbedder()) as copy:
        copy.ingest([tmp_path / "rows.jsonl"])
        copy.label_answers(read_labels(tmp_path / name).answers)
        assert labels(copy, SUM) == labels(memory, SUM)
        assert labels(copy, CODE) == labels(memory, CODE)


def test_an_export_says_who_labelled(memory: Memory, tmp_path: Path) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    export_labels(memory.stores, tmp_path / "labels.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert {(row["answer"], row["reward"], row["source"], row["by"]) for row in rows} == {
        ("4", 1.0, "person", "ana"),
        ("5", 0.0, "person", "ana"),
        ("6", 0.0, "person", "ana"),
    }
    assert all(row["at"] for row in rows)
    memory.undo_labels()
    with pytest.raises(InputError, match="the memory has no verdict to export"):
        export_labels(memory.stores, tmp_path / "labels.jsonl")
    with pytest.raises(InputError, match="name a file in an existing folder"):
        export_labels(memory.stores, tmp_path / "nowhere" / "labels.jsonl")


ANSWERS = st.lists(
    st.sampled_from([NONE, f"{NONE} (2)", NONE.upper(), f" {NONE}", "4", "a-b"]) | st.text(min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


@given(st.data(), ANSWERS)
def test_choices_of_label_studio_say_which_answer_is_meant(data: st.DataObject, answers: list[str]) -> None:
    texts = {f"a-{number}": answer for number, answer in enumerate(answers)}
    right = data.draw(st.lists(st.sampled_from(list(texts)), unique=True))
    wrong = [answer for answer in texts if answer not in right]
    made, names = task("sum", SUM, texts), choice_names(texts)
    none = annotation([made["data"]["none"]], [])
    read = [
        verdicts_of_tasks(Path("tasks.json"), json.dumps([made | {"annotations": [given]}]))
        for given in (annotation([names[one] for one in right], [names[one] for one in wrong]), none)
    ]
    expected = {*((answer, 1.0) for answer in right), *((answer, 0.0) for answer in wrong)}
    assert {(one.answer_id, one.reward) for one in read[0]} == expected
    assert [(one.answer, one.reward) for one in read[1]] == [(None, 0.0)]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_an_answer_that_reads_like_the_choice_of_none(tmp_path: Path, name: str, reward: float) -> None:
    row = {"query": "Which of them is a prime?", "domain": "qa", "thinking": "Hm."}
    rows = [row | {"answer": answer, "sample_index": n} for n, answer in enumerate([NONE, "a-b", "4"])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for folder in ("one", "two"):
        with Memory.open(tmp_path / folder, create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([tmp_path / "rows.jsonl"])
            verdicts = [AnswerVerdict(row["query"], NONE, reward), AnswerVerdict(row["query"], "a-b", 0.0)]
            memory.label_answers(verdicts if folder == "one" else read_labels(tmp_path / name).answers)
            found.append(labels(memory, row["query"]))
            if folder == "one":
                export_labels(memory.stores, tmp_path / name)
    assert found[0] == found[1]
    assert found[0][NONE] == reward


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_labels_of_audit_queries_mark_them_before_they_are_set(memory: Memory, tmp_path: Path, name: str) -> None:
    mark_audit(memory.stores, [query_id(SUM)])
    memory.label_answers([AnswerVerdict("sum", "4", 1.0), AnswerVerdict("product", "9", 1.0)])
    export_labels(memory.stores, tmp_path / name)
    with Memory.open(tmp_path / "copy", create=True, embedder=HashEmbedder()) as copy:
        copy.ingest([tmp_path / "rows.jsonl"])
        refused = [*read_labels(tmp_path / name).answers, AnswerVerdict("product", "6", 1.0)]
        with pytest.raises(InputError, match="two right answers|two verdicts"):
            copy.label_answers(refused)
        assert not audit_positions(names_of(copy)), "a refused file marked a query"
        assert copy.label_answers(read_labels(tmp_path / name).answers).audit == 1
        ids = copy.graph.nodes(NodeLabel.QUERY, ["id"])["id"].to_pylist()
        assert [ids[row] for row in audit_positions(names_of(copy))] == [query_id(SUM)]
        assert labels(copy, SUM) == labels(memory, SUM)


def names_of(memory: Memory) -> EdgeTable:
    return memory.graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET)


def test_a_label_of_a_rollout_marks_no_query(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"id": "t-1", "reward": 1, "split": "audit"}')
    with pytest.raises(InputError, match="only labels of answers mark an audit query"):
        read_labels(tmp_path / "labels.jsonl")


def test_a_half_bad_file_lists_the_first_few_errors(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("query,answer,reward\nsum,4,1\nsum,5,good\nsum,6,2\nsum,,\nsum,7,x\n")
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "labels.csv")
    message = str(caught.value)
    assert message.startswith("4 rows are refused: ")
    assert [f"labels.csv:{number}:" in message for number in (2, 3, 4, 5, 6)] == [False, True, True, True, False]
    assert message.endswith("; and 1 more")


def test_a_file_with_unknown_names_lists_the_first_few_errors(memory: Memory) -> None:
    given = [("sum", "4", 1.0), ("sum", "77", 0.0), ("nothing", "4", 1.0), ("product", "x", 0.0), ("sum", None, 1.0)]
    with pytest.raises(InputError) as caught:
        memory.label_answers([AnswerVerdict(*one, f"a.csv:{number}: ") for number, one in enumerate(given, start=2)])
    assert str(caught.value).startswith("4 rows are refused: a.csv:3: no rollout of the query")
    assert set(labels(memory, SUM).values()) == {None}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_with_another_separator_is_read(tmp_path: Path, delimiter: str) -> None:
    rows = [("query", "answer", "reward"), ("What, then?", "4", "right")]
    (tmp_path / "labels.csv").write_text("".join(delimiter.join(row) + "\n" for row in rows))
    assert [row[:3] for row in read_labels(tmp_path / "labels.csv").answers] == [("What, then?", "4", 1.0)]


def memory_of(folder: Path, rows: list[dict[str, Any]]) -> Memory:
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    memory = Memory.open(folder / "memory", create=True, embedder=HashEmbedder())
    memory.ingest([folder / "rows.jsonl"])
    return memory


LONG = [f"{'x = 1; ' * 400}return {value}" for value in (1, 2)]
LONG_ROWS = [
    {"query": CODE, "domain": "other", "thinking": "Hm.", "answer": answer, "sample_index": sample}
    for sample, answer in enumerate(LONG)
]


def label_of_samples(memory: Memory) -> list[float | None]:
    found = memory.cypher("MATCH (t:Thinking) RETURN t.sample_index, t.reward ORDER BY t.sample_index").rows
    return [row[1] for row in found]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
@pytest.mark.parametrize("sample", [0, 1])
def test_an_export_tells_long_answers_with_the_same_beginning_apart(tmp_path: Path, name: str, sample: int) -> None:
    with memory_of(tmp_path / "one", LONG_ROWS) as memory, memory_of(tmp_path / "two", LONG_ROWS) as copy:
        memory.label_answers([AnswerVerdict(CODE, LONG[sample], 1.0)])
        export_labels(memory.stores, tmp_path / name)
        copy.label_answers(read_labels(tmp_path / name).answers)
        assert label_of_samples(copy) == label_of_samples(memory) == [1.0, None][:: -1 if sample else 1]
        memory.label_answers([AnswerVerdict(CODE, LONG[1 - sample], 0.0)])
        export_labels(memory.stores, tmp_path / name)
        again = memory.label_answers(read_labels(tmp_path / name).answers)
        assert (again.batch, again.answers) == (None, 2)
        copy.label_answers(read_labels(tmp_path / name).answers)
        assert label_of_samples(copy) == label_of_samples(memory)


def test_a_text_that_is_cut_off_names_no_answer(tmp_path: Path) -> None:
    with memory_of(tmp_path / "one", LONG_ROWS) as memory:
        with pytest.raises(InputError, match="is cut off, and others may begin alike; name it by its id, such as a-"):
            memory.label_answers([AnswerVerdict(CODE, LONG[0][:2000], 1.0)])
        assert label_of_samples(memory) == [None, None]


def test_the_id_of_an_answer_counts_where_the_query_has_it(memory: Memory, tmp_path: Path) -> None:
    ids = dict(
        memory.cypher(
            "MATCH (q:Query)-[:GENERATES]->()-[:LEADS_TO]->(a) WHERE q.domain = 'math' "
            f"AND q.id = '{query_id(SUM)}' RETURN DISTINCT a.text, a.id"
        ).rows
    )
    file = tmp_path / "labels.csv"
    file.write_text(f"query,answer_id,answer,reward\nsum,{ids['5']},,0\nsum,a-gone,6,0\n")
    memory.label_answers(read_labels(file).answers)
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": 0.0, "": None}
    file.write_text(f"query,answer_id,answer,reward\nsum,{ids['4']},5,1\n")
    with pytest.raises(InputError, match=":2: the answer '5' has another id than a-"):
        memory.label_answers(read_labels(file).answers)


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_an_export_has_the_exact_reward(memory: Memory, tmp_path: Path, name: str) -> None:
    programs = ["def f():\n    return 2", "def f():\n    return 3"]
    memory.label_answers([AnswerVerdict("code", programs[0], 0.7), AnswerVerdict("code", programs[1], 0.3)])
    export_labels(memory.stores, tmp_path / name)
    read = read_labels(tmp_path / name).answers
    assert memory.label_answers(read).batch is None
    assert {verdict.reward for verdict in read} == {0.7, 0.3}


def test_a_changed_choice_replaces_a_partial_reward() -> None:
    made = task("sum", SUM, {"a-1": "4"}, rewards={"a-1": 0.7}) | {"annotations": [annotation([], ["4"])]}
    read = verdicts_of_tasks(Path("tasks.json"), json.dumps([made]))
    assert [(one.answer_id, one.reward) for one in read] == [("a-1", 0.0)]


def test_a_long_answer_is_a_field_of_csv(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"query,answer,reward\nsum,{'4' * 200_000},1\n")
    assert [len(row.answer or "") for row in read_labels(tmp_path / "labels.csv").answers] == [200_000]


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_unusual_line_ends_do_not_split_a_row_of_csv(tmp_path: Path, mark: str) -> None:
    (tmp_path / "labels.csv").write_text(f"query,answer,reward\nsum,a{mark}b,1\n", encoding="utf-8")
    assert [row[:3] for row in read_labels(tmp_path / "labels.csv").answers] == [("sum", f"a{mark}b", 1.0)]


def test_line_ends_within_an_answer_stay(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b'query,answer,reward\r\nsum,"a\r\nb",1\r\n')
    assert [row[:3] for row in read_labels(tmp_path / "labels.csv").answers] == [("sum", "a\r\nb", 1.0)]


def test_a_quoted_comma_in_the_header_is_no_separator(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('query;answer;reward;"a, note, of, the, reader"\nsum;4;1;x\n')
    assert [row[:3] for row in read_labels(tmp_path / "labels.csv").answers] == [("sum", "4", 1.0)]


@pytest.mark.parametrize("split", ["audit", "Audit", " AUDIT "])
def test_case_and_blanks_of_the_split_do_not_count(tmp_path: Path, split: str) -> None:
    (tmp_path / "labels.csv").write_text(f"query,answer,reward,split\nsum,4,1,{split}\nsum,5,0,\n")
    assert [row.audit for row in read_labels(tmp_path / "labels.csv").answers] == [True, False]
