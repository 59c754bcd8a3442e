"""Convert rows of datasets for trainers to rows of queries.

    format    recognized by                      gold
    verl      `prompt`, without a completion     `reward_model.ground_truth`
    TRL       `prompt`, without a completion     `answer` or `solution`

`prompt` is text or a list of chat messages. The user's messages are the query, as in an ingest of the same prompt, and
the system message is kept apart. `data_source` is the dataset; `ability` and `extra_info.domain` are the domain, and
`extra_info.split` is the split, if memstore has one of that name. What `memstore verl data` writes is read back with
the ids that its queries have in a memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.text.chat import conversation, decoded_prompt
from memstore.text.domain import infer_domain
from memstore.text.extract import marked_answer
from memstore.types import AUDIT_SPLIT, DOMAINS
from memstore_rl.benchmarks.budget import SPLITS, SplitName

PROMPT_COLUMN = "prompt"
_COMPLETIONS = ("completion", "completions", "response", "output")
"""Keys of a row that is a rollout, not a query."""
_SOLUTIONS = ("ground_truth", "answer", "solution")
"""Keys of the gold answer beside `prompt`, most specific first."""
_MARKED = re.compile(r"\\boxed|^####", re.MULTILINE)
_SPLIT_NAMES: dict[str, SplitName] = {"val": "validation", "valid": "validation", "dev": "validation"}


def is_prompt_row(values: Mapping[str, Any]) -> bool:
    """Whether a row has a prompt, but neither a query of memstore's format nor a completion."""
    return values.get(PROMPT_COLUMN) is not None and not any(
        values.get(key) is not None for key in ("query", "input", *_COMPLETIONS)
    )


def query_of_prompt_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row to memstore's keys of a query, with `split` and `system`; absent values are left out.

    Raises:
        RecordError: the prompt is neither text nor a list of messages.
    """
    prompt = values[PROMPT_COLUMN]
    if isinstance(prompt, str):
        query, system = decoded_prompt(prompt)
    elif isinstance(prompt, list | tuple):
        query, system, _ = conversation(prompt)
    else:
        raise RecordError(f"prompt must be text or a list of messages, not {type(prompt).__name__}")
    if not query.strip():
        raise RecordError("prompt has no text of a user; it must be text, or messages with `role` and `content`")
    info = _mapping(values.get("extra_info"))
    domains = (values.get("domain"), info.get("domain"), values.get("ability"))
    domain = next((domain for domain in domains if domain in DOMAINS), None)
    row = {
        "query": query,
        "system": values.get("system") or system or None,
        "gold": _gold(values, info, query, domain),
        "dataset": _known(values.get("dataset")) or _known(values.get("data_source")),
        "query_id": _known(values.get("query_id")) or _known(info.get("key")),
        "domain": domain,
        "split": _split(_known(values.get("split")) or _known(info.get("split"))),
    }
    return {key: value for key, value in row.items() if value is not None}


def _gold(values: Mapping[str, Any], info: Mapping[str, Any], query: str, domain: str | None) -> Any:
    """The gold answer; None if the row has none or says that it is not labelled."""
    if _known(values.get("gold")) is not None:
        return values["gold"]
    given = _known(_mapping(values.get("reward_model")).get("ground_truth"))
    if given is not None or "reward_model" in values:
        return None if info.get("labelled") is False else given
    solution = next((values[key] for key in _SOLUTIONS if _known(values.get(key)) is not None), None)
    marked = marked_answer(solution, "math") if isinstance(solution, str) and _MARKED.search(solution) else None
    # A worked solution in mathematics. In a program, `####` may be a comment.
    is_maths = marked and (domain or infer_domain(query, marked.answer)) == "math"
    return marked.answer if marked and is_maths else solution


def _split(name: Any) -> str | None:
    """The split in memstore's words; None for a name that memstore does not define."""
    name = _SPLIT_NAMES.get(name, name) if isinstance(name, str) else None
    return name if name in (*SPLITS, AUDIT_SPLIT) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _known(value: Any) -> Any:
    """The value; None for an empty text and for NaN, which pandas writes for a missing value."""
    return None if value == "" or value != value else value
