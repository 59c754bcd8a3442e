"""Do hidden states of the policy help to predict rewards? AUC with and without them.

    python benchmarks/hidden_states.py add rollouts.jsonl --model FOLDER --output featured.jsonl
    python benchmarks/hidden_states.py measure featured.jsonl [--seeds 10] [--budget 0.5]

`add` reads each rollout with the model that wrote it, and adds the mean of the last hidden states of its tokens as the
row's `features` (or the last token's, with `--of last`). `measure` ingests the rows into a memory and labels a share
of the queries. The reward model predicts the other queries. A logistic regression of its log odds and of k principal
components of the features is fitted to the labelled rollouts, with log odds of models that have not seen their query.
PCA, k and the penalty come from the labelled part alone: k is 0, 4, 8 or 16, chosen by the log loss on left-out
queries. The table has the mean AUC over the draws, and the mean difference with its standard error.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatMatrix, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import label_budget
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.metrics import auc

FOLDS = 4
SIZES = (0, 4, 8, 16)
"""Numbers of principal components to choose from."""
PENALTIES = (0.01, 0.1, 1.0)
BATCH = 16


class Fitted(NamedTuple):
    """Predicted rewards of all rollouts, and the number of components that was chosen."""

    probability: FloatVector
    size: int


def hidden_states(rows: Sequence[dict[str, Any]], folder: Path, of: str) -> FloatMatrix:
    """Hidden states float32 [T, W] of the rollouts' own tokens, of the last layer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).model.eval()
    asked, said = [], []
    for row in rows:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["query"]}], tokenize=False, add_generation_prompt=True
        )
        asked.append(tokenizer(text, add_special_tokens=False)["input_ids"])
        response = row.get("response") or row.get("thinking") or " "
        said.append(tokenizer(response, add_special_tokens=False)["input_ids"])
    states = np.zeros((len(rows), model.config.hidden_size), np.float32)
    order = sorted(range(len(rows)), key=lambda row: len(asked[row]) + len(said[row]))
    for start in range(0, len(order), BATCH):
        block = order[start : start + BATCH]
        batch = tokenizer.pad(
            {"input_ids": [asked[row] + said[row] for row in block]}, padding_side="right", return_tensors="pt"
        )
        with torch.inference_mode():
            found = model(**batch).last_hidden_state.float()
        for line, row in enumerate(block):
            own = found[line, len(asked[row]) : len(asked[row]) + len(said[row])]
            states[row] = (own.mean(0) if of == "mean" else own[-1]).numpy()
        print(f"{start + len(block)} of {len(rows)} rollouts", flush=True)
    return states


def add(options: argparse.Namespace) -> None:
    """Write the rows with their features."""
    rows = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]
    states = hidden_states(rows, options.model, options.of)
    with options.output.open("w", encoding="utf-8") as out:
        for row, state in zip(rows, states.astype(float).tolist(), strict=True):
            out.write(json.dumps({**row, "features": [round(value, 5) for value in state]}, ensure_ascii=False) + "\n")


def snapshot_of(file: Path) -> Snapshot:
    """A snapshot of a memory with the rollouts of the file."""
    with tempfile.TemporaryDirectory() as folder, Memory.open(Path(folder) / "memory", create=True) as memory:
        memory.ingest([file])
        return memory.snapshot()


def log_odds(probability: FloatVector) -> FloatVector:
    """Log odds, bounded."""
    p = probability.clip(1e-4, 1 - 1e-4)
    odds: FloatVector = np.log(p / (1 - p))
    return odds


def predict(snapshot: Snapshot, seen: FloatVector, query: IntVector, known: IntVector, seed: int) -> FloatVector:
    """Rewards float64 [T] by the reward model, from the labels of the queries `known`."""
    visible = np.where(np.isin(query, known), seen, np.nan)
    train, select = (np.zeros(snapshot.queries.num_rows, np.bool_) for _ in range(2))
    train[known], select[known[::5]] = True, True
    train &= ~select
    return OwnModel(device="cpu").fit_predict(snapshot, visible, train, select, seed)


def with_components(
    features: FloatMatrix,
    odds: FloatVector,
    held_out: FloatVector,
    right: FloatVector,
    rows: IntVector,
    fold: IntVector,
) -> Fitted:
    """Fit log odds and components to the labelled `rows`; `held_out`: log odds of models without its query."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    pca = PCA(max(SIZES), random_state=0).fit(features[rows])
    parts = pca.transform(features) / pca.singular_values_ * np.sqrt(len(rows))
    best: tuple[float, int, float] | None = None
    for size in SIZES:
        for penalty in PENALTIES:
            design, guess = np.column_stack([held_out, parts[:, :size]]), np.zeros(len(rows))
            for number in range(FOLDS):
                inside, outside = rows[fold != number], rows[fold == number]
                model = LogisticRegression(C=penalty, max_iter=1000).fit(design[inside], right[inside])
                guess[fold == number] = model.predict_proba(design[outside])[:, 1]
            loss = float(log_loss(right[rows], guess, labels=[0, 1]))
            if best is None or loss < best[0]:
                best = (loss, size, penalty)
    assert best is not None
    _, size, penalty = best
    design = np.column_stack([held_out, parts[:, :size]])
    model = LogisticRegression(C=penalty, max_iter=1000).fit(design[rows], right[rows])
    return Fitted(model.predict_proba(np.column_stack([odds, parts[:, :size]]))[:, 1], size)


def draw(snapshot: Snapshot, budget: float, seed: int) -> dict[str, tuple[float, float, int]]:
    """AUC without and with the features, and the number of components, by dataset, for one draw of labels."""
    assert snapshot.features is not None
    truth, query, hidden = rewards_of(snapshot), query_of_thinkings(snapshot), hide_labels(snapshot)
    split = label_budget(snapshot, budget, seed)
    known = np.random.default_rng(seed).permutation(np.flatnonzero(split.labelled))
    odds = log_odds(predict(hidden, truth, query, known, seed))
    held_out = np.zeros(len(truth))
    rows = np.flatnonzero(np.isin(query, known) & np.isfinite(truth))
    fold = np.zeros(len(rows), np.int64)
    for number in range(FOLDS):
        left_out = known[number::FOLDS]
        mask = np.isin(query[rows], left_out)
        fold[mask] = number
        rest = known[~np.isin(known, left_out)]
        held_out[rows[mask]] = log_odds(predict(hidden, truth, query, rest, seed))[rows[mask]]
    fitted = with_components(snapshot.features, odds, held_out, (truth > 0.5).astype(float), rows, fold)
    datasets = np.array(snapshot.thinkings["dataset"].to_pylist())
    found = {}
    for name in np.unique(datasets):
        own = split.report[query] & np.isfinite(truth) & (datasets == name)
        found[str(name)] = (auc(odds[own], truth[own]), auc(fitted.probability[own], truth[own]), fitted.size)
    return found


def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    snapshot = snapshot_of(options.file)
    draws = [draw(snapshot, options.budget, seed) for seed in range(options.seeds)]
    print("| dataset | without | with | difference | components |\n|---|---|---|---|---|")
    for name in draws[0]:
        table = np.array([found[name] for found in draws])
        gain = table[:, 1] - table[:, 0]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        sizes = ", ".join(str(int(size)) for size in table[:, 2])
        print(
            f"| {name} | {table[:, 0].mean():.3f} | {table[:, 1].mean():.3f} | {gain.mean():+.3f} ± {error:.3f} "
            f"| {sizes} |"
        )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    adding = commands.add_parser("add", help="add hidden states to rollouts")
    adding.add_argument("file", type=Path)
    adding.add_argument("--model", type=Path, required=True, help="folder of the model that wrote them")
    adding.add_argument("--output", type=Path, required=True)
    adding.add_argument("--of", choices=("mean", "last"), default="mean")
    adding.set_defaults(run=add)
    measuring = commands.add_parser("measure", help="AUC with and without the features")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--seeds", type=int, default=10)
    measuring.add_argument("--budget", type=float, default=0.5)
    measuring.set_defaults(run=measure)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
