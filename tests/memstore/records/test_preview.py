"""The preview says of each file what was recognised, left over and rejected, as an ingest would read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from memstore.records.preview import preview
from memstore.records.record import RecordDefaults


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_preview_of_several_shapes_in_a_folder(tmp_path: Path) -> None:
    openr1 = {"problem": "How many?", "answer": "12", "generations": ["#### 12", "#### 7"], "tokens": [1, 2], "id": 3}
    write(tmp_path / "1.jsonl", *[{"query": f"Q{n}", "response": "7", "temperature": 1.0} for n in range(7)])
    write(tmp_path / "2.jsonl", openr1, {"text": "no"}, {"text": "no"}, 3, {"query": "", "response": "7"})
    (tmp_path / "3.jsonl").write_bytes("{}".encode("utf-16"))
    first, second, third = preview([tmp_path])
    assert (dict(first.shapes), first.rollouts, len(first.records)) == ({"memstore": 7}, 7, 5)
    assert (dict(first.kept), dict(first.left_over), first.rejected) == ({"temperature": 7}, {}, 0)
    assert [record.query for record in first.records] == ["Q0", "Q1", "Q2", "Q3", "Q4"]
    assert dict(second.shapes) == {"several generations a row": 1, "memstore": 1}
    assert (second.rollouts, second.labelled, second.rejected) == (2, 0, 4)
    assert (dict(second.kept), dict(second.left_over)) == ({"id": 2}, {"tokens": 1})
    assert [reason[:22] for reason in second.reasons] == [
        "2: the row has the key",
        "4: the line is a numbe",
        "5: query is empty",
    ]
    assert third.error is not None
    assert "UTF-16" in third.error


def test_a_preview_of_chosen_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"doc": {"q": "How many?"}, "out.text": "7", "rest": 1})
    (found,) = preview([path], RecordDefaults(paths={"query": "doc.q", "response": "out.text"}))
    assert (dict(found.shapes), dict(found.left_over)) == ({"--map": 1}, {"rest": 1})


def test_a_preview_needs_neither_torch_nor_stores(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"query": "How many?", "response": "7"})
    code = (
        "import sys\nfrom memstore.records.preview import preview\n"
        f"assert preview([{str(path)!r}])[0].rollouts == 1\n"
        "print([name for name in ('torch', 'ladybug', 'pymilvus', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
