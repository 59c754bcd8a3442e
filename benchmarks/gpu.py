"""Embedding, links, training and scoring on a GPU beside the CPU, in one run of less than ten minutes.

    python benchmarks/gpu.py                  on a machine with a GPU: both devices
    python benchmarks/gpu.py --device cpu     the CPU alone
    python benchmarks/gpu.py --small          sizes that take seconds

    embed         texts of 1.3 kB with all-MiniLM-L6-v2 (fp16 on the GPU)
    link          the 5 nearest neighbours of each vector, all pairs compared
    train         the reward model on a synthetic memory, one query in five labelled
    score         all rollouts of that memory, by one model whose networks have random weights
    paper: train  the paper's network, a graph attention network of width 512, for a fixed number of epochs
    paper: score  all rollouts, by the weights that the CPU trained

A line has the seconds on both devices, the largest memory that torch's allocator held on the GPU, and how far the
results of the GPU agree with those of the CPU: vectors by the lowest cosine, neighbours by recall, probabilities by the
largest difference. Models are loaded and the GPU is warmed up before the clock starts. Training is without dropout,
whose random numbers differ between devices. Training and scoring of the reward model compute their features on the CPU
in any case; only the networks run on the device.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from growth_rows import rows as growth_rows
from synthetic import ROLLOUTS_A_QUERY, clustered
from synthetic_memory import memory_of

from memstore.embedding.minilm import load_embedder
from memstore.snapshots.snapshot import Snapshot
from memstore.vectors.knn import LinkSettings, Neighbours, link_all
from memstore.vectors.knn.blocked import fast_dtype
from memstore_gnn.baselines.paper import Paper, PaperSettings
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.network import Correction, RewardNetwork
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.training.fit import fit

LABELLED_EVERY = 5
LINKS = LinkSettings()


@dataclass(frozen=True)
class Sizes:
    """How much each line computes."""

    texts: int = 4_000
    vectors: int = 50_000
    rollouts: int = 8_000
    epochs: int = 100
    """Steps of each network of the reward model."""
    paper_rollouts: int = 4_000
    paper_epochs: int = 10
    paper_width: int = 512


SMALL = Sizes(texts=8, vectors=400, rollouts=480, epochs=2, paper_rollouts=160, paper_epochs=2, paper_width=32)


class Timed(NamedTuple):
    """A work on one device; `peak` is the GPU's memory in bytes, 0 on the CPU."""

    seconds: float
    peak: int
    result: Any


class Line(NamedTuple):
    """A line of the table: a work by device, and how the results of the GPU agree with those of the CPU."""

    name: str
    size: str
    timed: dict[str, Timed]
    agreement: str


Work = Callable[[], Any]


def measure(devices: list[str], prepare: Callable[[str], Work]) -> dict[str, Timed]:
    """Run a work on each device; what `prepare` does is not timed."""
    found = {}
    for device in devices:
        work, on_gpu = prepare(device), device != "cpu"
        if on_gpu:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        result = work()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        found[device] = Timed(seconds, torch.cuda.max_memory_allocated(device) if on_gpu else 0, result)
    return found


def compared(timed: dict[str, Timed], agree: Callable[[Any, Any], str]) -> str:
    """The agreement of the two devices; empty with one."""
    return agree(*(one.result for one in timed.values())) if len(timed) > 1 else ""


def lowest_cosine(on_cpu: np.ndarray, on_gpu: np.ndarray) -> str:
    return f"cosine at least {float((on_cpu * on_gpu).sum(axis=1).min()):.5f}"


def recall(on_cpu: Neighbours, on_gpu: Neighbours) -> str:
    held = (on_cpu.index[:, :, None] == on_gpu.index[:, None, :]).any(axis=2)
    return f"recall {float(held[on_cpu.index >= 0].mean()):.5f}"


def largest_difference(on_cpu: np.ndarray, on_gpu: np.ndarray) -> str:
    return f"probabilities within {float(np.abs(on_cpu - on_gpu).max()):.1e}"


def embed(devices: list[str], sizes: Sizes) -> Iterator[Line]:
    texts = [row["thinking"] for row in growth_rows(-(-sizes.texts // 10))][: sizes.texts]

    def prepare(device: str) -> Work:
        embedder = load_embedder(device=device)
        embedder.embed(texts[:8])
        return lambda: embedder.embed(texts)

    timed = measure(devices, prepare)
    yield Line("embed", f"{len(texts):,} texts", timed, compared(timed, lowest_cosine))


def link(devices: list[str], sizes: Sizes) -> Iterator[Line]:
    x = clustered(sizes.vectors, sizes.vectors // 400 + 1, np.random.default_rng(0))
    group = np.arange(len(x)) // ROLLOUTS_A_QUERY

    def prepare(device: str) -> Work:
        fast_dtype(x.shape[1], device)
        link_all(x[:1000], group[:1000], LINKS, device=device)
        return lambda: link_all(x, group, LINKS, device=device)

    timed = measure(devices, prepare)
    yield Line("link", f"{len(x):,} vectors", timed, compared(timed, recall))


def reward_model(devices: list[str], sizes: Sizes) -> Iterator[Line]:
    memory = memory_of(sizes.rollouts // ROLLOUTS_A_QUERY)
    reward = np.where(query_of_thinkings(memory) % LABELLED_EVERY == 0, rewards_of(memory), np.nan)
    settings = TrainSettings(NetworkSettings(dropout=0.0), epochs=sizes.epochs)
    count = f"{memory.thinkings.num_rows:,} rollouts"

    def probabilities(model: RewardModel) -> np.ndarray:
        return np.asarray(model.predict(memory, model.label_context(memory, reward)))

    trained = measure(devices, lambda device: lambda: fit(memory, reward, settings=settings, device=device))
    agreement = compared(trained, lambda *models: largest_difference(*map(probabilities, models)))
    yield Line("train", count, trained, agreement)
    with tempfile.TemporaryDirectory() as folder:
        save_model(with_random_networks(trained["cpu"].result), Path(folder))

        def prepare(device: str) -> Work:
            model = load_model(Path(folder), device)
            return lambda: probabilities(model)

        timed = measure(devices, prepare)
    yield Line("score", count, timed, compared(timed, largest_difference))


def with_random_networks(model: RewardModel) -> RewardModel:
    """The model with networks that are trusted: training trusts none where they do not help."""
    torch.manual_seed(0)
    networks = tuple(RewardNetwork(NetworkSettings()).eval() for _ in range(TrainSettings().members))
    for network in networks:
        torch.nn.init.normal_(network.head[-1].weight)
    return replace(model, correction=Correction(networks, 1.0))


def paper(devices: list[str], sizes: Sizes) -> Iterator[Line]:
    memory = memory_of(sizes.paper_rollouts // ROLLOUTS_A_QUERY, seed=1)
    at = np.arange(memory.queries.num_rows)
    known, select = at % 2 == 0, at % 10 == 0
    train = known & ~select
    reward = np.where(known[query_of_thinkings(memory)], rewards_of(memory), np.nan)
    settings = PaperSettings(sizes.paper_width, dropout=0.0, epochs=sizes.paper_epochs, patience=sizes.paper_epochs)
    count = f"{memory.thinkings.num_rows:,} rollouts"
    models = {device: Paper(settings=settings, device=device) for device in devices}

    def scored(device: str, network: Any, snapshot: Snapshot) -> np.ndarray:
        return models[device].predict(network, snapshot, known)

    trained = measure(devices, lambda device: lambda: models[device].fit(memory, reward, train, select, 0))
    results = {device: scored(device, one.result, memory) for device, one in trained.items()}
    agreement = largest_difference(*results.values()) if len(results) > 1 else ""
    yield Line("paper: train", f"{count}, {sizes.paper_epochs} epochs", trained, agreement)

    def prepare(device: str) -> Work:
        network = copy.deepcopy(trained["cpu"].result).to(device)
        return lambda: scored(device, network, memory)

    timed = measure(devices, prepare)
    yield Line("paper: score", count, timed, compared(timed, largest_difference))


PARTS = (embed, link, reward_model, paper)


def print_line(line: Line, gpu: str | None) -> None:
    cpu, other = line.timed["cpu"], line.timed.get(gpu or "")
    cells = [line.name, line.size, f"{cpu.seconds:.3g}"]
    if other:
        cells += [f"{other.seconds:.3g}", f"{cpu.seconds / other.seconds:.1f}", f"{other.peak / 2**20:,.0f}"]
        cells.append(line.agreement)
    print("| " + " | ".join(cells) + " |", flush=True)


def warm_up(device: str) -> None:
    """Create the context and the handles of the libraries, which takes seconds once."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        square = torch.ones(256, 256, dtype=dtype, device=device)
        (square @ square).sum().item()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:0 (default), or cpu for the CPU alone")
    parser.add_argument("--small", action="store_true", help="sizes that take seconds")
    options = parser.parse_args(arguments)
    gpu = None if options.device == "cpu" else options.device
    if gpu and not torch.cuda.is_available():
        sys.exit(f"torch finds no CUDA device here, so {gpu} cannot be measured; pass --device cpu for the CPU alone")
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{torch.cuda.get_device_name(gpu)} beside {threads}" if gpu else f"the CPU alone, {threads}")
    header = ["", "size", "CPU s", *(["GPU s", "times faster", "GPU MiB", "agreement"] if gpu else [])]
    print("| " + " | ".join(header) + " |\n|---|---|" + "--:|" * (4 if gpu else 1) + ("---|" if gpu else ""))
    if gpu:
        warm_up(gpu)
    started = time.perf_counter()
    for part in PARTS:
        for line in part(["cpu", *([gpu] if gpu else [])], SMALL if options.small else Sizes()):
            print_line(line, gpu)
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
