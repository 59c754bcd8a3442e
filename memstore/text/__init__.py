"""One splitter, one answer extractor, one canonicaliser: ingest, training and scoring all import these.

    split.py      a response into thinking and answer
    extract.py    where a response states its answer, for any domain; choice, number and code markers beside it
    canonical.py  an answer to the value that votes are counted by; maths, choice and program beside it
    domain.py     which kind of task a query is, from its content

Every function here is a pure function of its arguments and takes any text: hostile ones cost linear time.
"""

from memstore.text.canonical import Canonical, canonical_answer
from memstore.text.domain import infer_domain
from memstore.text.split import (
    SPLITTER_VERSION,
    Split,
    embedded_text,
    extract_answer,
    split_response,
    unfinished_thinking,
)

__all__ = [
    "SPLITTER_VERSION",
    "Canonical",
    "Split",
    "canonical_answer",
    "embedded_text",
    "extract_answer",
    "infer_domain",
    "split_response",
    "unfinished_thinking",
]
