"""Make the pictures of docs/inspect.md: pages of a memory in a real browser.

    memstore demo
    python docs/make_screenshots.py demo-memory

It needs Chromium and the package playwright. A copy of the memory is shown, which has the evidence of one rollout, and
in which some queries have no labels, so that there are queries to label.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import uvicorn

from memstore.labels.answers import AnswerVerdict
from memstore.memory import Memory
from memstore_gnn.explain.explain import explain_rollout
from memstore_gnn.verbs.queue import queue_memory
from memstore_rl.inspector.label_queue import QueueEntry, entry_of
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource
from memstore_rl.inspector.views.group import group_sheet
from memstore_rl.service.protocol import server_config
from memstore_schema.columns import EdgeType, NodeLabel
from memstore_schema.queries import named_queries

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH, HEIGHT = 1200, 720
NAME = "demo-memory"
"""What the pages call the memory."""
HALF = 0.5
OPEN = 40
"""Queries that lose their labels."""
LABELLER = "Ana"


class Shot(NamedTuple):
    """A page to take a picture of."""

    name: str
    path: str
    wait_for: str
    """A selector of what the picture is about."""
    height: int = HEIGHT


def main() -> None:
    """Write the pictures of a memory, by default the demo's."""
    location = Path(sys.argv[1] if len(sys.argv) > 1 else NAME).resolve()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(location, NAME)
        with Memory.open(NAME) as memory:
            query = split_query(memory)
            explain_central(memory, query)
            queue = queue_of(memory, query)
            with served(memory, queue) as address, chromium() as browser:
                shoot(browser, address, shots(query), IMAGES)


def split_query(memory: Memory) -> str:
    """A query whose rollouts are divided, but of which half agree."""
    named = next(one for one in named_queries() if one.name == "split-groups")
    found = memory.cypher(named.text, {"limit": 10_000})
    share = found.columns.index("top_share")
    return str(next(row[0] for row in found.rows if row[share] >= HALF))


def explain_central(memory: Memory, query: str) -> None:
    """Store the evidence of a rollout of the query's first answer, unless the memory has some."""
    column = group_sheet(MemorySource(memory), query).columns[0]
    if column.explained is None:
        explain_rollout(memory, column.rollouts[0].id, write=True)


def queue_of(memory: Memory, kept: str) -> list[QueueEntry]:
    """A queue of queries whose labels are removed; `kept` keeps its own."""
    names = [name for name in memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"].to_pylist() if name != kept][:OPEN]
    memory.label_answers([AnswerVerdict(name, None, None) for name in names], replace=True)
    return [
        entry_of(item.as_json()) for item in queue_memory(memory, OPEN // 2, criterion="pages", audit_share=0.0).items
    ]


def shots(query: str) -> Sequence[Shot]:
    """The pictures."""
    drawn = f"MATCH (q:Query)-[:{EdgeType.GENERATES}]->(t:{NodeLabel.THINKING})-[:{EdgeType.LEADS_TO}]->(a:Answer)"
    cypher = quote(f"{drawn}\nWHERE q.id = '{query}'\nRETURN q.id, t.id, a.id\nORDER BY t.id LIMIT 6")
    return (
        Shot("memory", "/", "#stores"),
        Shot("query", f"/query/{query}", ".sheet"),
        Shot("timeline", f"/query/{query}/timeline", "svg.chart", 660),
        Shot("propagation", f"/propagation?node={query}", "svg.graph", 640),
        Shot("queue", "/queue", "#labelling"),
        Shot("disagreements", "/disagreements", "tbody tr", 480),
        Shot("training", "/training", "svg.chart", 620),
        Shot("cypher", f"/cypher?draw=1&query={cypher}", "svg.graph", 680),
    )


def shoot(browser: Any, address: str, shots: Sequence[Shot], folder: Path) -> list[Path]:
    """Write a picture of each page; the evidence of the first answer is open."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{address}/queue")
    page.fill("#name", LABELLER)
    page.click("text=Begin")
    page.wait_for_load_state("load")
    written = []
    for shot in shots:
        page.goto(f"{address}{shot.path}")
        page.wait_for_selector(shot.wait_for)
        if page.locator("details.why").count():
            page.locator("details.why summary").first.click()
        written.append(folder / f"inspect_{shot.name}.png")
        page.screenshot(path=written[-1], clip={"x": 0, "y": 0, "width": WIDTH, "height": shot.height})
    context.close()
    return written


@contextmanager
def chromium() -> Iterator[Any]:
    """The installed Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no Chromium; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(memory: Memory, queue: Sequence[QueueEntry]) -> Iterator[str]:
    """The pages of a memory with a queue, on a free port; yields their address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(inspector_app(MemorySource(memory), queue=queue), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/inspect"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
