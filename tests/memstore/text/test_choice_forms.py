"""Multiple choice as models write it: forms of the options, of the letter, and of the sentence around it."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer, infer_domain, split_response
from memstore.text.choice import options

QUERY = "Which one is it?\n(A) salt\n(B) sugar\n(C) flour\n(D) rice"


def letter_in(response: str, query: str = QUERY) -> str:
    return canonical_answer(split_response(response, "qa").answer, "qa", query).value


NAMES_B = [
    # The answer first, the reasons below it
    "B. sugar\n\nExplanation: Salt (A) is salty, flour (C) and rice (D) are bland.",
    "**B) sugar**\n\nSalt is salty, flour and rice are bland.",
    "B\n\nSalt (A) and flour (C) are not sweet.",
    "(B) sugar\nBecause (A) salt is salty and (C) flour is bland.",
    "B. sugar\nBecause salt is salty and flour is bland.",
    "(B)\n\nA) Salt is salty.\nC) Flour is bland.\nD) Rice is bland.",
    "**B**\n\nReasoning: option (A) is salty, and so is the sea.",
    "B: sugar\n\nThe others, (A), (C) and (D), are not sweet.",
    "[B]\nOption A is salty.",
    "Ｂ. sugar\n\nSalt (A) is salty.",
    # A reason in the same sentence
    "The answer is B because sugar is sweet.", "The correct option is B since sugar is sweet.",
    "Answer: B because sugar is sweet.", "A is wrong, so the answer is B, not C.", "I choose B as sugar is sweet.",
    "The answer is B, because sugar is sweet.", "The answer is (B) because (A) is salty.",
    "The answer is B, as (A) and (C) are bland.", "The answer is B rather than C.", "The answer is B instead of A.",
    "The answer is B; salt is not sweet.", "The answer is B - sugar is sweet.", "The answer is B (sugar is sweet).",
    "I would go with B because it is sweet.", "I pick B.", "We select B since it is sweet.", "My choice is B.",
    "The answer is B although C is tempting.", "The best choice is B, while A is salty.",
    "B) sugar, because (A) is salty", "The answer is (B) sugar, since (A) is salty.",
    "B - sugar is the sweet one", "B is the correct answer because it is sweet.", "Option B is correct.",
    "B is right.",
    "The answer is sugar, since salt is salty.", "The answer is sugar because it is sweet.",
    "Final Answer: B\n\nConfidence: 90%",
    "The answer should be B", "The answer must be (B), not (A).", "The answer is B (not A).",
    # Decorations
    "{'answer': 'B'}", "**Answer:** B. sugar", "The answer is **B**: sugar is sweet.",
    "The answer is:\n\n**B. sugar**",
    "Sugar is sweet.\n\n**B**", 'The answer is "B".', "The answer is <B>.", '{"answer": "B"}',
    '```json\n{"reason": "sweet", "answer": "B"}\n```', "Sugar is sweet.\nANSWER: $B$", "The answer is “B”.",
    "The answer is `B`.", "The answer is 'B'.", "The answer is $\\mathbf{B}$.", "The answer is \\textbf{(B)}.",
    "Sugar is sweet.\n\n*B*", "Sugar is sweet.\n\n__B__", "Sugar is sweet.\n\n> B", "Sugar is sweet.\n\n[B]",
    '{"choice": "B", "reason": "sweet"}', '{"answer": "B) sugar"}', "The answer is **(B)**.", "Answer: **B**",
    "\\boxed{\\text{B}}", "\\boxed{\\textbf{(B)}}", "\\boxed{B}", "Final answer: <B>", "The answer is 「B」.",
    '{\n  "thinking": "(A) is salty",\n  "answer": "B"\n}', "The answer is B.</s>", "**Answer: B**", "ANSWER: B",
    # Chinese, Japanese, Korean
    "因为糖是甜的，所以答案是B。", "分析：糖是甜的。\n答案：B", "糖是甜的，故选B。", "答案是（B）", "The answer is Ｂ.",
    "正确答案为 B。", "因此选B", "应选（B）。", "所以选择B。", "答案：【B】",
    "答案是 B，因为糖是甜的。", "选项A是咸的。\n故选：B",
    "正解はB。", "정답: B", "本题选Ｂ。", "答案：B. sugar",
]  # fmt: skip


@pytest.mark.parametrize("response", NAMES_B)
def test_responses_that_name_one_option(response: str) -> None:
    assert letter_in(response) == "B"


NAMES_NONE = [
    "The answer is A or B.", "The answer is (A) and (B).", "The answer is not B but C or D.",
    "Answer: B, or perhaps C.",
    "The answer is B and C.", "(B) for the first and (C) for the second.", "The answer is (A) or (B).", "B/C", "A, B",
    "I do not know.", "none of the above", "The answer is B, but it could also be C.", "选A或B",
]  # fmt: skip


@pytest.mark.parametrize("response", NAMES_NONE)
def test_responses_that_name_several_options_or_none(response: str) -> None:
    assert letter_in(response) not in ("A", "B", "C", "D")


OTHER_LETTERS = [
    ("A. salt is salty\nB. sugar is sweet\nC. flour is bland\nD. rice is bland\nSo the answer is (C).",
    "C"),  # a list
    ("(A) Salt is salty.\n(B) Sugar is sweet.\n(D) Rice is bland.\nThe answer is D", "D"),
    ("A\n\nThe answer is (C).", "C"),  # a marker comes first
    ("The answer is A because B is bland.", "A"), ("The answer is C, not B.", "C"),
    ("I think the answer is (D).", "D"), ("A\n\nB is bland.", "A"), ("flour", "C"),
    ("The answer is B. Wait, the answer is C.", "C"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "letter"), OTHER_LETTERS)
def test_responses_that_name_another_option(response: str, letter: str) -> None:
    assert letter_in(response) == letter


THREE = {"A": "21", "B": "22", "C": "23"}
FORMS = [
    "Find x.\nA)21\nB)22\nC)23", "Find x.\nA) 21\nB) 22\nC) 23", "Find x.\n(A)21\n(B)22\n(C)23",
    "Find x.\nA.21\nB.22\nC.23",
    "Find x. Answer Choices: (a) 21 (b) 22 (c) 23", "Find x.\na) 21\nb) 22\nc) 23", "Find x.\n(a) 21\n(b) 22\n(c) 23",
    "Find x.\nA、21\nB、22\nC、23", "Find x.\nＡ．21\nＢ．22\nＣ．23", "Find x.\n（A）21\n（B）22\n（C）23",
    "Find x. (A)21 (B)22 (C)23",
    "Find x. Answer option: ['A)21', 'B)22', 'C)23']", "Find x. A)21 B)22 C)23",
    "Find x.\n**A)** 21\n**B)** 22\n**C)** 23",
    "Find x.\n$\\textbf{(A)}\\ 21 \\qquad \\textbf{(B)}\\ 22 \\qquad \\textbf{(C)}\\ 23$",
    "Find x.\n$\\mathrm{(A)\\ } 21 \\qquad \\mathrm{(B)\\ } 22 \\qquad \\mathrm{(C)\\ } 23$",
    "Find x.\n$\\text{(A) }21\\quad\\text{(B) }22\\quad\\text{(C) }23$", "Find x.\n[A] 21\n[B] 22\n[C] 23",
    "Find x.\nA: 21\nB: 22\nC: 23",
]  # fmt: skip
SAY_B = [
    "B",
    "b",
    "(B)",
    "(b)",
    "B)22",
    "(b) 22",
    "b) 22",
    "22",
    "22.0",
    "$22",
    "\\boxed{22}",
    "B because it is 22",
    "B. 22",
]


@pytest.mark.parametrize("query", FORMS)
def test_options_in_many_forms(query: str) -> None:
    assert options(query).texts == THREE
    assert {answer: canonical_answer(answer, "qa", query).value for answer in SAY_B} == dict.fromkeys(SAY_B, "B")
    assert canonical_answer("21", "qa", query).value == "A"
    assert canonical_answer("24", "qa", query).value == "24"
    assert infer_domain(query, "B") == "qa"


WITHOUT_OPTIONS = [
    "Points (A) and (B) lie on a line.", "f(A) + g(B) + h(C) = 1", "Let f(a)=1, f(b)=2 and f(c)=3.",
    "A. Smith wrote it.",
    "Name A, B and C.", "ABC is a triangle with A=(1,2) and B=(3,4).", "(A)(B)(C)", "x_(a) y_(b) z_(c)",
    "{A} {B} {C}",
    "a:1", "The set [a] [b] [c]", "I. one\nII. two",
]  # fmt: skip


@pytest.mark.parametrize("query", WITHOUT_OPTIONS)
def test_text_that_is_no_list_of_options(query: str) -> None:
    assert options(query).texts == {}


def test_the_parts_of_a_problem_do_not_make_it_multiple_choice() -> None:
    query = "Let x = 3.\n(a) Find 2x.\n(b) Find x squared.\n(c) Find their sum."
    assert infer_domain(query, "15") == "math"
    assert infer_domain(query, "\\frac{1}{2}") == "math"
    assert infer_domain(query, None) == "other"


def test_a_formula_that_is_no_option_is_mathematics() -> None:
    query = "Find x.\n$\\textbf{(A)}\\ 1 \\qquad \\textbf{(B)}\\ 2 \\qquad \\textbf{(C)}\\ 3$"
    assert infer_domain(query, "2") == "qa"
    assert infer_domain(query, "7") == "math"
