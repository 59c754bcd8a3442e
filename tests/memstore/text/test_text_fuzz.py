"""Split, extract and canonical over text as models write it, damaged at random; `tests/fuzz` goes on for longer."""

from __future__ import annotations

import random
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from memstore.testing.hostile import PIECES, QUERIES
from memstore.text import canonical_answer, infer_domain, split_response, unfinished_thinking
from memstore.text.chat import decoded_prompt, plain_output
from memstore.text.special_tokens import assistant_text
from memstore.types import DOMAINS, Domain

LIMIT_SECONDS = 2.0
"""CPU seconds for all functions on one text of a few kilobytes."""

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
