"""The card of a folder of training data: a README with the YAML block that `datasets` and the Hugging Face Hub read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LICENCE = "unknown  # for the owner of the rollouts to set"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_COLUMNS = """\
| column | meaning |
|---|---|
| `query_id`, `dataset`, `key`, `domain`, `split` | the query, and the names that its source gives it |
| `rollouts` | how many rollouts of the query the memory has |
| `rollout_id`, `answer_id`, `policy`, `run`, `step`, `sample_index` | the rollout, its answer, and who wrote it when |
| `reward`, `source` | 0 (wrong) to 1 (right), and who says so: `ground_truth`, `person`, `remembered` or `predicted` |
| `probability`, `model` | what the reward model predicts, null where the model has not scored the rollout, and its id |
| `votes` | how many rollouts of the query give this answer |
"""
_PAIR_COLUMNS = (
    "\nColumns of a rollout are there twice, as `chosen_reward` and `rejected_reward`. `gap` is the difference of the\n"
    "two rewards.\n"
)


class CardFacts(NamedTuple):
    """What a card says."""

    title: str
    summary: str
    """What a row is."""
    rule: Mapping[str, object]
    """The settings that the rows were selected with."""
    splits: Mapping[str, int]
    """Rows of each split."""
    datasets: Mapping[str, int]
    """Rows of each dataset."""
    sources: Mapping[str, int]
    """Rollouts by the source of their reward."""
    policies: Sequence[str]
    model: str | None
    version: str
    """Version of memstore."""
    pairs: bool


def card_text(facts: CardFacts) -> str:
    """The text of the card. It has no date and no path: equal memories have equal cards."""
    return f"---\n{_front_matter(facts)}---\n\n{_body(facts)}"


def _front_matter(facts: CardFacts) -> str:
    rows = sum(facts.splits.values())
    size = next((name for limit, name in _SIZES if rows < limit), "n>10M")
    splits = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in facts.splits)
    return (
        f"license: {LICENCE}\npretty_name: {json.dumps(facts.title, ensure_ascii=False)}\n"
        f"task_categories:\n- text-generation\nsize_categories:\n- {size}\ntags:\n- memstore\n"
        f"- {'dpo' if facts.pairs else 'sft'}\nconfigs:\n- config_name: default\n  data_files:\n{splits}"
    )


def _body(facts: CardFacts) -> str:
    policies = ", ".join(f"`{name}`" for name in facts.policies) or "not recorded"
    rule = "\n".join(f"- {name.replace('_', ' ')}: {_shown(value)}" for name, value in facts.rule.items())
    model = f"`{facts.model}`" if facts.model else "none: every reward is known"
    return (
        f"# {facts.title}\n\n{facts.summary}\n\n"
        f"Exported from a memory by memstore {facts.version}. Audit queries of the memory are not among the rows.\n\n"
        f"## Counts\n\n{_table('split', 'rows', facts.splits)}\n{_table('dataset', 'rows', facts.datasets)}\n"
        f"{_table('source of the reward', 'rollouts', facts.sources)}\n"
        f"## Origin\n\n- policies: {policies}\n- reward model: {model}\n{rule}\n\n"
        f"## Columns\n\n{_COLUMNS}{_PAIR_COLUMNS if facts.pairs else ''}\n"
        "## Licence\n\nThe owner of the queries and rollouts chooses it, and sets `license` above.\n"
    )


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "all"
    return "all" if value is None else str(value)


def _table(what: str, unit: str, counts: Mapping[str, int]) -> str:
    names = (name.replace("|", "\\|") or "(none)" for name in counts)
    rows = "".join(f"| {name} | {count:,} |\n" for name, count in zip(names, counts.values(), strict=True))
    return f"| {what} | {unit} |\n|---|---|\n{rows}"
