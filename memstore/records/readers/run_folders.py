"""Files of a training run's folder that repeat the rollouts of other files, or describe them.

prime-rl up to 0.8 writes `step_N/{train,eval}/all/traces.jsonl`, and a part of the same episodes again as
`effective/traces.jsonl`. Since then it writes each episode once, in numbered chunks, which are compressed when they are
full, so that a chunk may lie there twice for a moment:

    traces/stream/00000.jsonl.zst, 00001.jsonl     the episodes
    traces/stream.index.jsonl                      a summary of each
    traces/annotations/PRODUCER/00000.jsonl ...    what was learned about them later, such as advantages
    traces/live/TRACE.jsonl                        episodes that are not finished
"""

from __future__ import annotations

import re
from pathlib import Path

_CHUNK = re.compile(r"\d{5}\.jsonl")
_INDEX = ".index.jsonl"
_BESIDE_STREAM = ("annotations", "live")


def repeats_or_describes(file: Path, folder: Path) -> bool:
    """Whether a file in `folder` or its subfolders has no rollouts of its own."""
    name = file.name
    if _CHUNK.fullmatch(name) and file.with_name(f"{name}.zst").is_file():
        return True
    if name.endswith(_INDEX) and _is_stream(file.with_name(name.removesuffix(_INDEX))):
        return True
    if file.parent.name == "effective" and (file.parent.parent / "all" / name).is_file():
        return True
    parts = file.relative_to(folder).parts[:-1]
    inner = [folder.joinpath(*parts[: at + 1]) for at, part in enumerate(parts) if part in _BESIDE_STREAM]
    return any(_is_stream(part.with_name("stream")) for part in inner)


def _is_stream(path: Path) -> bool:
    return path.is_dir() or path.with_name(f"{path.name}.jsonl").is_file()
