"""Bundled benchmarks: questions, prompts and gold answers, loaded with the `datasets` library from local copies.

An answer in the format that the prompt requests is extracted and compared with the declared gold by the verifiers.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import SandboxError
from memstore.text import infer_domain, split_response
from memstore.text.choice import options
from memstore_rl.benchmarks import benchmarks, questions, sample
from memstore_rl.benchmarks.question import Question
from memstore_rl.sandbox import Limits
from memstore_rl.verifiers import Attempt, Verifiers, standard_verifiers
from memstore_rl.verifiers.code import CodeVerifier

NAMES = tuple(benchmarks())
IN_DOMAIN = {
    "gsm8k", "math", "gsm_symbolic", "mmlu", "commonsenseqa", "obqa", "arc_c", "gpqa", "humaneval_plus", "mbpp_plus"
}  # fmt: skip
OUT_OF_DOMAIN = {"numina_math", "siqa", "piqa"}
CODE = {"humaneval_plus", "mbpp_plus"}


@pytest.fixture(scope="module")
def verifiers() -> Iterator[Verifiers]:
    made = standard_verifiers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def code_verifiers() -> Iterator[Verifiers]:
    try:
        code = CodeVerifier(limits=Limits(cpu_seconds=10))
    except SandboxError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    made = standard_verifiers(code=code)
    yield made
    made.close()


def response_to(question: Question, *, right: bool) -> str:
    """A response in the form that the prompt asks for."""
    assert question.prompt is not None
    assert question.gold is not None
    if "```python" in question.prompt:
        number = int(re.search(r"\d+", question.key or "")[0])  # type: ignore[index]
        name = f"plus_{number}" if question.dataset == "humaneval_plus" else f"times_{number}"
        sign = "+" if question.dataset == "humaneval_plus" else "*"
        body = f"def {name}(x):\n    return x {sign} {number if right else number + 1}"
        return f"I will use `x`.\n\n```python\n{body}\n```\nDone."
    if "The answer is (X)" in question.prompt:
        others = [letter for letter in options(question.text).texts if letter != question.gold]
        return f"(A) and (B) sound alike, so I compare.\nThe answer is ({question.gold if right else others[0]})."
    answer = question.gold if right else f"{question.gold} + 1"
    if "####" in question.prompt:
        return f"First 3, then 4.\n#### {question.gold if right else int(question.gold) + 1}"
    assert "\\boxed{}" in question.prompt
    return f"First I take $3$. So it is $\\boxed{{{answer}}}$."


def attempts_at(question: Question) -> list[Attempt]:
    """A right and a wrong answer, as extracted from responses."""
    responses = [response_to(question, right=right) for right in (True, False)]
    answers = [split_response(response, question.domain).answer for response in responses]
    return [Attempt(question.text, question.gold or "", answer) for answer in answers]


def test_there_are_thirteen_benchmarks() -> None:
    assert set(NAMES) == IN_DOMAIN | OUT_OF_DOMAIN
    assert {name for name, declared in benchmarks().items() if declared.out_of_domain} == OUT_OF_DOMAIN


@pytest.mark.parametrize("name", NAMES)
def test_source_licence_and_link_are_declared(name: str) -> None:
    declared = benchmarks()[name]
    assert declared.link == f"https://huggingface.co/datasets/{declared.source}"
    assert declared.licence
    assert declared.title
    assert declared.sample == 1_500
    assert declared.local is None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CODE])
def test_an_answer_in_the_requested_format_is_correct(name: str, copies: Path, verifiers: Verifiers) -> None:
    for question in questions(name, limit=6, folder=copies):
        verdicts = verifiers.check(question.domain, attempts_at(question))
        assert [verdict.reward for verdict in verdicts] == [1.0, 0.0], (question, verdicts)


@pytest.mark.parametrize("name", sorted(CODE))
def test_a_program_in_the_requested_format_is_correct(name: str, copies: Path, code_verifiers: Verifiers) -> None:
    for question in questions(name, limit=2, folder=copies):
        verdicts = code_verifiers.check("code", attempts_at(question))
        assert [verdict.reward for verdict in verdicts] == [1.0, 0.0], (question, verdicts)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_complete(name: str, copies: Path) -> None:
    declared = benchmarks()[name]
    drawn = sample(declared, folder=copies)
    assert drawn.rows == 12 * len(declared.splits)
    assert len(drawn.questions) + sum(drawn.left_out.values()) == drawn.rows
    for question in drawn.questions:
        assert (question.dataset, question.domain) == (name, declared.domain)
        assert question.prompt is not None
        assert question.text in question.prompt
        assert infer_domain(question.text, question.gold) == declared.domain
    counts = Counter(question.split for question in drawn.questions)
    total = len(drawn.questions)
    assert (counts["train"], counts["validation"]) == (total // 2, round(total * 0.7) - total // 2)


def test_the_query_of_a_choice_shows_its_options(copies: Path) -> None:
    found = {question.key: question for question in questions("arc_c", folder=copies)}
    assert found["row-3"].text == "Which of these is 3?\n\n(A) -27 boats\n(B) -17 boats\n(C) -7 boats\n(D) 3 boats"
    assert found["row-3"].gold == "D", "the source calls it 4"
    assert found["row-4"].gold == "A"


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_shows_no_answer_to_copy(name: str, copies: Path) -> None:
    """With the example `#### 42` in the prompt, 11 of 64 answers of a model with 0.5B parameters were 42."""
    question = questions(name, limit=1, folder=copies)[0]
    instructions = f"{question.system or ''}{(question.prompt or '').replace(question.text, '')}"
    assert not re.search(r"\d|\([A-JＡ-Ｊ]\)", instructions), instructions


def test_shuffled_options_are_spread_and_reproducible(copies: Path) -> None:
    first, again = (questions("gpqa", seed=seed, folder=copies) for seed in (0, 1))
    assert {question.text for question in first} == {question.text for question in again}
    assert len({question.gold for question in first}) > 1
    for question in first:
        assert options(question.text).texts[question.gold or ""].startswith(f"{(question.key or '')[3:]} hulls")
    assert all(int((question.key or "")[3:]) < 100 for question in first), "the other configuration was read"


def test_proofs_without_an_answer_are_skipped(copies: Path) -> None:
    drawn = sample(benchmarks()["numina_math"], folder=copies)
    assert drawn.left_out == {"have no gold answer": 3}
    assert "\\sqrt{7}" in {question.gold for question in drawn.questions}


def test_prompts_show_example_tests_only(copies: Path) -> None:
    shown = questions("humaneval_plus", limit=1, folder=copies)[0]
    assert "assert" not in (shown.prompt or "")
    assert (shown.gold or "").endswith(f"check(plus_{(shown.key or '').removeprefix('HumanEval/')})")
    listed = questions("mbpp_plus", limit=1, folder=copies)[0]
    assert "assert math.isclose(times_" in listed.text
    assert "inputs" not in listed.text
