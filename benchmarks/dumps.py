"""What is recognised in dumps of other tools: a table with one line for each file of a folder.

    python benchmarks/dumps.py FOLDER ... [--domain math]

A line has the layout that was recognised, the rows of the file, the rollouts in them, those with a reward, how many
were rejected, and the first reason. Nothing is written. Scripts, Python files and notes beside the dumps are left out.
The dumps that the tests write can be measured, too:

    python -m pytest --basetemp=DUMPS -o tmp_path_retention_policy=all tests/memstore/records
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from memstore.errors import InputError
from memstore.records.preview import FilePreview, preview
from memstore.records.readers.natural_order import in_natural_order
from memstore.records.record import RecordDefaults

NO_DUMPS = (".txt", ".sh", ".py", ".pyc", ".md")
SHOWN = 110
"""Characters of a reason that are shown."""


def previews(folder: Path, defaults: RecordDefaults) -> Iterator[FilePreview]:
    """What an ingest would read of each file; a file that cannot be read has an error."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() not in NO_DUMPS]
    for file in in_natural_order(files):
        try:
            found = preview([file], defaults)
        except InputError as error:
            found = [FilePreview(str(file), error=str(error))]
        for one in found:
            one.file = str(Path(one.file).relative_to(folder))
            if one.error is not None:
                one.error = one.error.replace(f"{folder}/", "")
            yield one


def line(found: FilePreview) -> str:
    """A line of the table."""
    shapes = ", ".join(shape for shape, _ in found.shapes.most_common()) or "none"
    why = found.error or (found.reasons[0] if found.reasons else "")
    why = (why if len(why) <= SHOWN else why[:SHOWN] + "…").replace("|", "\\|").replace("\n", " ")
    counts = (found.rows, found.rollouts, found.labelled, found.rejected)
    return f"| `{found.file}` | {shapes} | {' | '.join(f'{count:,}' for count in counts)} | {why} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--domain", choices=("math", "qa", "code", "other"), help="domain of rows that name none")
    given = parser.parse_args(arguments)
    print("| dump | recognised | rows in | rollouts | with a reward | rejected | why |\n|---|---|--:|--:|--:|--:|---|")
    for folder in given.folders:
        for found in previews(folder, RecordDefaults(domain=given.domain)):
            print(line(found), flush=True)


if __name__ == "__main__":
    main()
