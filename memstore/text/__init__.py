"""Split responses, extract answers and compute canonical answers; ingest, training and scoring all use these.

    split.py      split a response into thinking and answer
    extract.py    find the answer that a response states; `fences.py` and `listing.py` find programs
    canonical.py  map an answer to the value that votes are counted by; see `maths.py`, `choice.py` and `program.py`
    domain.py     infer the domain of a query from its content
    identity.py   normalise a query, so that one question has one id
    chat.py       remove chat templates and flatten lists of messages; see `special_tokens.py`

All functions are pure, accept any text and take time linear in its length.
"""

from memstore.text.canonical import Canonical, canonical_answer
from memstore.text.domain import infer_domain
from memstore.text.identity import normalised_query, readable_query
from memstore.text.split import (
    OLDER_SPLITTERS,
    SPLITTER_VERSION,
    SplitResponse,
    embedded_text,
    extract_answer,
    split_response,
    unfinished_thinking,
)

__all__ = [
    "OLDER_SPLITTERS",
    "SPLITTER_VERSION",
    "Canonical",
    "SplitResponse",
    "canonical_answer",
    "embedded_text",
    "extract_answer",
    "infer_domain",
    "normalised_query",
    "readable_query",
    "split_response",
    "unfinished_thinking",
]
