"""Fuzzing of split, extract and canonical over text as models write it, damaged at random.

A run in CI takes seconds. `MEMSTORE_FUZZ_SECONDS=3600 pytest tests/memstore/text/test_text_fuzz.py` fuzzes for an hour
with random seeds.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memstore.text import canonical_answer, infer_domain, split_response, unfinished_thinking
from memstore.text.chat import decoded_prompt, plain_output
from memstore.text.special_tokens import assistant_text
from memstore.types import DOMAINS, Domain

SECONDS = float(os.environ.get("MEMSTORE_FUZZ_SECONDS", "0"))
LIMIT_SECONDS = 2.0
"""CPU seconds for all functions on one text of a few kilobytes."""

PIECES = [
    "The answer is ", "Answer: ", "\\boxed{", "}", "{", "####", " 12", "-3.50", "1,000", "\\frac", "\\frac{1}{2}",
    "½", "４２",
    "³", "₂",
    "\u202f", "\u00a0", "0.\\overline{3}", "0.333...", "1e-9", "1e999999999", "_{16}", "_2",
    " base 2",
    " km/h",
    "\\text{ cm}^2", "元", "万", " and ", ", ", "和", "(A)", "(B) sugar", "B", "b) ", "A、", "答案：", "故选",
    "because ",
    " or ",
    "<think>", "</think>", "<answer>", "</answer>", "<|im_end|>", "<|im_start|>user\n",
    "<|channel|>final<|message|>", "</s>",
    "<s>", "[INST]", "[/INST]", "[DONE]", "<｜Assistant｜>", "```", "```python\n", "\n", "\n\n", "    ", "def f(x):",
    "return ",
    "class A:", "assert f(1) == ", "import os", "'", '"', '"""', "[1, 2]", "{'a': 1}",
    '{"answer": "', '"}', "lambda: ", "()",
    "x", "+", "-", "*", "^", "=", "\\", "$", "**", "✅", "\ud800", "\0", "e", "i", "\\mathrm{e}", "\\sqrt",
    "\\emptyset", "...",
    "USER: ", " ASSISTANT:", "system\n", "user\n", "assistant\n", "analysis", "assistantfinal",
    "9" * 50, "(" * 20, "\\left(",
]  # fmt: skip
QUERIES = [
    "", "Which?\n(A) salt\n(B) sugar\n(C) 1,000\n(D) \\frac{1}{2}", "def f(x, y=(1, 2)):\n    '''Add.'''\n",
    "Find x. (a) 21 (b) 22 (c) 23", "$\\textbf{(A)}\\ 1 \\qquad \\textbf{(B)}\\ 2$",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=25).map("".join)


def check(text: str, domain: Domain, query: str) -> None:
    """Every function returns, in bounded time, the same result twice; canonical values are fixed points."""
    begun = time.process_time()
    split = split_response(text, domain)
    assert split == split_response(text, domain)
    assert split_response(assistant_text(text), domain).answer == split.answer
    for answer in (split.answer, text):
        value, shown = canonical_answer(answer, domain, query)
        assert (value, shown) == canonical_answer(answer, domain, query)
        assert bool(value) == bool(shown)
        if domain != "code":
            assert canonical_answer(value, domain, query).value == value
    assert infer_domain(query, text) in DOMAINS
    assert infer_domain(text, query) in DOMAINS
    assert isinstance(decoded_prompt(text).query + plain_output(text) + unfinished_thinking(text), str)
    assert time.process_time() - begun < LIMIT_SECONDS


@given(TEXTS, st.sampled_from(DOMAINS), st.sampled_from(QUERIES))
@settings(max_examples=400, deadline=None)
@example("B. or (C)", "qa", QUERIES[1])
@example("\\boxed{\\boxed{...}}", "math", "")
@example("<|im_end|>...½", "qa", QUERIES[1])
def test_any_text_has_an_outcome(text: str, domain: Domain, query: str) -> None:
    check(text, domain, query)


def test_repeated_pieces_take_bounded_time() -> None:
    """A piece, or two, repeated to 2,400 characters: below the length from which text is only compared as text."""
    chance = random.Random(0)
    for _ in range(60):
        piece = "".join(chance.sample(PIECES, chance.randint(1, 2)))
        text = (piece * (2_400 // len(piece) + 1))[:2_400]
        for domain in DOMAINS:
            check(text, domain, chance.choice(QUERIES))


@pytest.mark.skipif(not SECONDS, reason="set MEMSTORE_FUZZ_SECONDS to fuzz for longer")
@pytest.mark.timeout(0)
def test_fuzz_for_a_while() -> None:
    chance = random.Random()
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        size = chance.choice((3, 10, 30, 200))
        pieces = chance.choices([*PIECES, chr(chance.randrange(0x20, 0x3000)), str(chance.randrange(10**6))], k=size)
        text = "".join(pieces)
        if chance.random() < 0.2:
            text = (text * 400)[:2_400]
        domain, query = chance.choice(DOMAINS), chance.choice(QUERIES)
        try:
            check(text, domain, query)
        except BaseException:
            print(f"{count} texts before: {text!r}, {domain!r}, {query!r}")
            raise
        count += 1
    print(f"{count} texts in {SECONDS:.0f} s")
