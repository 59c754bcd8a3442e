"""Write docs/api.md from the docstrings of the public interface.

    python docs/make_api.py

`SECTIONS` lists the public names outside of `memstore` itself, whose `__all__` is the front door. Signatures and
docstrings are read from the source, so that no package is loaded and the page is the same on every machine. A docstring
has Google's sections; `Example:` becomes a block of code, which tests/docs/test_api_page.py runs.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
FOLDERS = {"memstore": ROOT, "memstore_gnn": ROOT / "gnn", "memstore_rl": ROOT / "rl"}
PAGE = DOCS / "api.md"
WIDTH = 100
"""Signatures longer than this have one parameter a line."""
DECORATORS = ("classmethod", "staticmethod", "contextmanager")
"""Decorators that a signature shows."""
FRONT_DOOR = "Front door"
SECTIONS: dict[str, tuple[str, ...]] = {
    FRONT_DOOR: (),
    "Memory": (
        "memstore.memory.Memory",
        "memstore.pipeline.ingest.IngestOptions",
        "memstore.pipeline.ingest.IngestSummary",
        "memstore.records.record.RecordDefaults",
        "memstore.vectors.knn.settings.LinkSettings",
        "memstore.graph.cypher_result.CypherResult",
    ),
    "Snapshots and data frames": (
        "memstore.snapshots.snapshot.Snapshot",
        "memstore.snapshots.write.save_snapshot",
        "memstore.snapshots.files.load_snapshot",
        "memstore.snapshots.frames.to_pandas",
        "memstore.snapshots.frames.Frames",
    ),
    "PyTorch Geometric": ("memstore_gnn.data.hetero.to_hetero", "memstore_gnn.data.hetero.select_queries"),
    "Reward models": (
        "memstore_gnn.verbs.train.train_memory",
        "memstore_gnn.verbs.score.score_memory_rollouts",
        "memstore_gnn.verbs.score.score_file",
        "memstore_gnn.evaluation.compare.evaluate_memory",
        "memstore_gnn.explain.explain.explain_rollout",
    ),
    "Rewards": (
        "memstore_rl.rewards.group.GroupScorer",
        "memstore_rl.rewards.reward.RewardQuery",
        "memstore_rl.rewards.reward.Rollout",
        "memstore_rl.rewards.reward.Group",
        "memstore_rl.rewards.reward.Reward",
        "memstore_rl.rewards.gauge.GaugeSettings",
        "memstore_rl.rewards.gauge_reading.GaugeReading",
    ),
    "Reward service": (
        "memstore_rl.service.client.RewardClient",
        "memstore_rl.service.client.AsyncRewardClient",
        "memstore_rl.trainers.group_reward.group_reward",
        "memstore_rl.trainers.hook.GroupRewards",
        "memstore_rl.trainers.trl.reward_function",
    ),
    "The paper's experiments": (
        "memstore_rl.reproduction.plan.read_plan",
        "memstore_rl.reproduction.run.reproduce",
        "memstore_rl.reproduction.run.Reproduction",
        "memstore_rl.reproduction.dry_run.dry_run",
    ),
}
INTRODUCTION = """# Python API

The public interface, generated from docstrings by `docs/make_api.py`. Names that are not on this page are internal and
may change in any release ([versioning.md](versioning.md)). All errors derive from `memstore.errors.MemstoreError`, and
their message is one sentence that says what to do.
"""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.ClassDef | Function
Documented: TypeAlias = Definition | ast.Module
HEADING = re.compile(r"^(Args|Returns|Yields|Raises|Attributes|Example|Examples|Shapes|Note|Notes|Edges[^:]*):(.*)$")


class Example(NamedTuple):
    """The code of an `Example:` section, with the module and the full name of the object that it belongs to."""

    module: str
    owner: str
    code: str


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown."""
    parts = [INTRODUCTION]
    for heading, names in SECTIONS.items():
        if heading == FRONT_DOOR:
            parts.extend(front_door())
            continue
        parts.append(f"## {heading}\n")
        for name in names:
            parts.extend(render(name, find(name)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def front_door() -> Iterator[str]:
    """A table of the names that `memstore` exports, with the modules that define them."""
    exported = front_door_names()
    if not exported:
        return
    yield f"## {FRONT_DOOR}\n\n{body(tree(ROOT / 'memstore' / '__init__.py'))}\n| name | defined in | |\n|---|---|---|"
    for name, module in exported.items():
        yield f"| `memstore.{name}` | `{module}` | {summary(f'{module}.{name}')} |"
    yield ""


@cache
def front_door_names() -> dict[str, str]:
    """The module of each name in `memstore.__all__`."""
    import memstore

    names = [name for name in getattr(memstore, "__all__", ()) if not name.startswith("__")]
    return {name: str(getattr(memstore, name).__module__) for name in names}


def summary(name: str) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(docstring(find(name)).split("\n\n")[0].split())


def examples() -> list[Example]:
    """Every example in the docstrings of this page, front door included."""
    named = {name for names in SECTIONS.values() for name in names}
    named |= {f"{module}.{name}" for name, module in front_door_names().items()}
    found = [Example("memstore", "memstore", code) for code in code_of(tree(ROOT / "memstore" / "__init__.py"))]
    for name in sorted(named):
        definition = find(name)
        members = methods(definition) if isinstance(definition, ast.ClassDef) else []
        for owner, node in [(name, definition), *((f"{name}.{method.name}", method) for method in members)]:
            found += [Example(name.rpartition(".")[0], owner, code) for code in code_of(node)]
    return found


def code_of(node: Documented) -> list[str]:
    """The code of the examples in a docstring."""
    return re.findall(r"^```python\n(.*?)^```", body(node), re.M | re.S)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def find(name: str) -> Definition:
    """The class or function of a full name.

    Raises:
        LookupError: the module does not define it.
    """
    module, _, own = name.rpartition(".")
    path = FOLDERS[module.split(".")[0]].joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == own:
            return node
    raise LookupError(f"{path.relative_to(ROOT)} does not define {own}; correct SECTIONS in docs/make_api.py")


def methods(node: ast.ClassDef) -> list[Function]:
    """The public methods and properties of a class that have a docstring, in order."""
    found = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [item for item in found if (not item.name.startswith("_") or item.name == "__init__") and docstring(item)]


def render(name: str, node: Definition) -> Iterator[str]:
    """The section of one class or function."""
    module, _, own = name.rpartition(".")
    door = "memstore" if front_door_names().get(own) == module else module
    yield f"### {own}\n\n`from {door} import {own}`\n"
    if isinstance(node, ast.ClassDef):
        yield body(node)
        yield from fields(node)
        for method in methods(node):
            yield f"#### {own}.{method.name}\n"
            if is_property(method):
                yield f"Property of type `{ast.unparse(method.returns) if method.returns else 'Any'}`.\n"
            else:
                yield f"```python\n{signature(method)}\n```\n"
            yield body(method)
    else:
        yield f"```python\n{signature(node)}\n```\n"
        yield body(node)


def fields(node: ast.ClassDef) -> Iterator[str]:
    """The public fields of a dataclass or named tuple; a string below a field describes it."""
    rows = []
    for item, following in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name) or item.target.id[0] == "_":
            continue
        default = "" if item.value is None else f" = `{ast.unparse(item.value)}`"
        described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        words = " ".join(str(following.value.value).split()) if described else ""  # type: ignore[attr-defined]
        rows.append(f"- `{item.target.id}`: `{ast.unparse(item.annotation)}`{default}{'. ' if words else ''}{words}")
    yield "\n".join(["**Fields:**\n", *rows, ""]) if rows else ""


def is_property(node: Function) -> bool:
    """Whether a method is read like an attribute."""
    return any(ast.unparse(item) in ("property", "cached_property") for item in node.decorator_list)


def signature(node: Function) -> str:
    """The signature of a function, without `self` and `cls`, one parameter a line where it is long."""
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    end = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    kinds = [word for word in map(ast.unparse, node.decorator_list) if word in DECORATORS]
    parts = parameters(node.args)
    line = f"{start} {node.name}({', '.join(parts)}){end}"
    if len(line) > WIDTH:
        line = "\n".join([f"{start} {node.name}(", *(f"    {part}," for part in parts), f"){end}"])
    return "\n".join([*(f"@{kind}" for kind in kinds), line])


def parameters(arguments: ast.arguments) -> list[str]:
    """The parameters of a function as they are written, without `self` and `cls`."""
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    parts = [_parameter(*pair) for pair in zip(positional, [*missing, *arguments.defaults], strict=True)]
    if positional and positional[0].arg in ("self", "cls"):
        parts = parts[1:]
    if arguments.vararg:
        parts.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*parts, f"**{_parameter(arguments.kwarg, None)}"] if arguments.kwarg else parts


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{annotation}" + (f" = {ast.unparse(default)}" if default else "")


def docstring(node: Documented) -> str:
    """The docstring without its indentation; "" where there is none."""
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


def body(node: Documented) -> str:
    """A docstring as Markdown: its prose, then a list for each of Google's sections, and code for examples."""
    prose: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    for line in docstring(node).splitlines():
        heading = HEADING.match(line)
        if heading:
            sections.append((heading[1], [f"    {heading[2].strip()}"] if heading[2].strip() else []))
        elif sections and (not line.strip() or line.startswith("    ")):
            sections[-1][1].append(line)
        else:
            sections.append(("", [line])) if sections else prose.append(line)
    return "\n".join(["\n".join(prose), "", *(section(title, lines) for title, lines in sections)])


def section(title: str, lines: list[str]) -> str:
    """One section of a docstring as Markdown."""
    text = inspect.cleandoc("\n" + "\n".join(lines))
    if not title:
        return text
    if title.startswith("Example"):
        return f"```python\n{_without_prompts(text)}\n```\n"
    items = re.sub(r"\n {2,}", " ", text)
    if title in ("Args", "Raises", "Attributes"):
        items = re.sub(r"^([\w*]+(?:, [\w*]+)*): ", r"- `\1`: ", items, flags=re.MULTILINE)
    elif not re.search(r"^[\w, ]+:", items, re.MULTILINE):
        items = " ".join(items.split())
    else:
        items = re.sub(r"^(?=\S)", "- ", items, flags=re.MULTILINE)
    return f"**{title}:**\n\n{items}\n"


def _without_prompts(code: str) -> str:
    """Code without `>>>`; what the interpreter would print becomes a comment."""
    if not code.startswith(">>>"):
        return code
    lines = [line[4:] if line.startswith((">>>", "...")) else f"# {line}" for line in code.splitlines()]
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    main()
