"""Make the pictures of docs/inspect.md: pages of a memory in a real browser.

    memstore demo
    python docs/make_screenshots.py demo-memory

It needs Chromium and the package playwright. The evidence of one rollout is measured and stored if the memory has none.
"""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from memstore.memory import Memory
from memstore_gnn.explain.explain import explain_rollout
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource
from memstore_rl.inspector.views.group import group_sheet
from memstore_rl.service.protocol import server_config
from memstore_schema.columns import EdgeType, NodeLabel
from memstore_schema.queries import named_queries

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH, HEIGHT = 1000, 720
HALF = 0.5


def main() -> None:
    """Write the pictures of a memory, by default the demo's."""
    location = sys.argv[1] if len(sys.argv) > 1 else "demo-memory"
    with Memory.open(location) as memory, served(memory) as address, chromium() as browser:
        query = split_query(memory)
        explain_central(memory, query)
        shoot(browser, address, query, IMAGES)


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


def shoot(browser: Any, address: str, query: str, folder: Path) -> list[Path]:
    """Write a picture of each page; the first answer's evidence is open."""
    drawn = f"MATCH (q:Query)-[:{EdgeType.GENERATES}]->(t:{NodeLabel.THINKING})-[:{EdgeType.LEADS_TO}]->(a:Answer)"
    cypher = f"{drawn} WHERE q.id = '{query}' RETURN q.id, t.id, a.id ORDER BY t.id LIMIT 6"
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page = context.new_page()
    written = []
    for name, path in (("memory", "/"), ("query", f"/query/{query}"), ("cypher", f"/cypher?draw=1&query={cypher}")):
        page.goto(f"{address}{path}")
        page.wait_for_selector({"memory": "#stores", "query": ".sheet", "cypher": "svg.graph"}[name])
        if page.locator("details.why").count():
            page.locator("details.why summary").first.click()
        written.append(folder / f"inspect_{name}.png")
        page.screenshot(path=written[-1])
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
def served(memory: Memory) -> Iterator[str]:
    """The pages of a memory on a free port; yields their address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(inspector_app(MemorySource(memory)), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/inspect"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
