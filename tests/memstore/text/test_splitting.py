"""Splitting of typical responses, and agreement with real rollouts that their sources split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from memstore.text import canonical_answer, embedded_text, extract_answer, split_response
from memstore.types import Domain

NO_NUMBER = "nobody knows, for want of a number in the text of the problem"
NO_LETTER = "It is hot here, and P(A) is 0.3, which tells us little about the question asked"

CASES: list[tuple[Domain, str, str, str]] = [
    # domain, response, thinking, answer
    ("math", "16 - 3 = <<16-3=13>>13\nA: 13", "16 - 3 = <<16-3=13>>13", "13"),
    ("math", "She has 9 left.\n#### 9", "She has 9 left.", "9"),
    ("math", "So 9 are left. The answer is $9.50.", "So 9 are left.", "$9.50."),
    ("math", "Half of it.\n\n\\[ \\boxed{\\frac{1}{2}} \\]", "Half of it.", "\\frac{1}{2}"),
    ("math", "I get 4. Therefore, the final answer is $\\boxed{4}$.", "I get 4.", "4"),
    ("math", "First \\boxed{1}, no: \\boxed{2}.", "First \\boxed{1}, no:", "2"),
    ("math", "#### Step 1: add\n2+2=4\n**Answer:** 4 apples", "#### Step 1: add\n2+2=4", "4 apples"),
    ("math", "The answer is 5? No.\nThe answer is 6.", "The answer is 5? No.", "6."),
    ("math", "We add.\nIn all it is $1,200 a year.", "We add.\nIn all it is $1,200 a year.", "$1,200"),
    ("math", "5 - 3 leaves 2.\n2", "5 - 3 leaves 2.", "2"),
    ("math", "18", "", "18"),
    ("math", "4 * 5 = 20 km. So he walks 20 km in 5 days.", "4 * 5 = 20 km. So he walks 20 km in 5 days.", "20"),
    ("math", "4 * 5 = 20. So 7 walk 30 km in 5 days.", "4 * 5 = 20. So 7 walk 30 km in 5 days.", "5"),
    ("math", "2 + 2 = 4. So 4 + 5 = 9.", "2 + 2 = 4. So 4 + 5 = 9.", "9"),
    ("math", "We add.\n#### Number: 7\nI used 3 of them.", "We add.", "7"),
    ("math", "We add.\n#### NUMBER\n7.\nI used 3 of them.", "We add.", "7"),
    ("math", "#### Number: 5\nNo. The answer is 6.", "#### Number: 5\nNo.", "6."),
    ("math", "#### Numbers used: 5\nThis leaves 6.", "#### Numbers used: 5\nThis leaves 6.", "6"),
    ("math", "I add.\nAnswer: 11\nIt was easy.", "I add.", "11"),
    ("math", NO_NUMBER, NO_NUMBER, ""),
    ("math", "<think>2+2 is 4</think>\nThe answer is \\boxed{4}.", "2+2 is 4", "4"),
    ("math", "2+2 is 4\n</think>4", "2+2 is 4", "4"),
    ("math", "<think>2+2 is 4, or 5, or", "2+2 is 4, or 5, or", ""),
    ("math", "<think>So \\boxed{4}", "So \\boxed{4}", "4"),
    ("math", "Well.\n<answer> 4 </answer>", "Well.", "4"),
    ("qa", "Cities grow food. The answer is (H).", "Cities grow food.", "(H)."),
    ("qa", "It is so. Therefore, the answer is (H). If not, then (B).", "It is so.", "(H)."),
    ("qa", "The answer is (E). A deed only transfers what one has.", "A deed only transfers what one has.", "(E)."),
    ("qa", "So it is likely. The correct statement is (J).", "So it is likely.", "(J)."),
    ("qa", "The best ground would be (F).", "The best ground would be (F).", "(F)"),
    ("qa", "It grows.\nB) plants", "It grows.", "B) plants"),
    ("qa", "new perspective", "", "new perspective"),
    ("qa", NO_LETTER, NO_LETTER, ""),
    ("code", "    return 1\n", "", "    return 1\n"),
    ("code", "    return 1\n\nassert f() == 1\n", "", "    return 1\n"),
    ("code", "def f():\n    return 1\n\nprint(f())", "", "def f():\n    return 1\n\nprint(f())\n"),
    ("code", "I add.\n```python\ndef f():\n    return 1\n```\nDone.", "I add.", "def f():\n    return 1\n"),
    ("code", "```python\nx = 1\n```\nthen\n```\ndef f(): pass\n```\n```text\n1\n```",
     "```python\nx = 1\n```\nthen", "def f(): pass\n"),
    ("code", "Cut off:\n```python\ndef f():\n    ret", "Cut off:", "def f():\n    ret"),
    ("other", "It is a long story.", "", "It is a long story."),
    ("other", "<think>Hm.</think>It is a long story.", "Hm.", "It is a long story."),
    ("other", "We looked it up. The answer is Paris.", "We looked it up.", "Paris."),
]  # fmt: skip


@pytest.mark.parametrize(("domain", "response", "thinking", "answer"), CASES)
def test_thinking_and_answer(domain: Domain, response: str, thinking: str, answer: str) -> None:
    assert split_response(response, domain) == (thinking, answer)
    assert extract_answer(response, domain) == answer


def test_the_embedded_text_is_the_thinking_or_else_the_answer() -> None:
    assert embedded_text(" I think.", "4") == " I think."
    assert embedded_text("\n", "4") == "4"
    assert embedded_text("", " ") == ""


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("name", "floor"), [("openai_gsm__gsm8k", 0.999), ("mmlupro__mmlu_pro_ori", 0.984), ("codet__humaneval", 0.995)]
)
def test_agreement_with_the_split_of_the_source(shared_data: Path, name: str, floor: float) -> None:
    """The agreement is at least that of docs/splitting.md, less a small margin."""
    pairs = list(zip(*(_rows(shared_data / kind / f"{name}.jsonl.gz") for kind in ("raw", "rollouts")), strict=True))
    answered = agreed = 0
    for raw, given in pairs:
        if not given["answer"].strip():
            continue
        answered += 1
        answer = split_response(raw["response"], raw["domain"]).answer
        agreed += canonical_answer(answer, raw["domain"], raw["query"]) == canonical_answer(
            given["answer"], raw["domain"], raw["query"]
        )
    assert agreed >= floor * answered


@pytest.mark.parametrize("name", ["openai_gsm__gsm8k", "mmlupro__mmlu_pro_ori", "thoughtsource__csqa"])
def test_a_value_equals_that_of_the_gold_if_the_reward_is_one(shared_data: Path, name: str) -> None:
    rows = _rows(shared_data / "rollouts" / f"{name}.jsonl.gz")
    wrong = 0
    for row in rows:
        value, gold = (canonical_answer(row[key], row["domain"], row["query"]).value for key in ("answer", "gold"))
        wrong += (value == gold) != (row["reward"] == 1.0)
    assert wrong <= 0.003 * len(rows)
