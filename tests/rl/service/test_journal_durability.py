"""Journal: entries survive a kill, and each key is stored once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import CorruptStoreError, StoreError, StoreFullError
from memstore_rl.service.journal import Entry, Journal

WRITER = """
import sys
from pathlib import Path
from memstore_rl.service.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 1_000_000):
    journal.append([Entry(f"k{number}-{part}", "{}", "m1", 0.5, 0.5) for part in range(8)])
    print(number, flush=True)
"""


def entry(key: str) -> Entry:
    return Entry(key, f'{{"key": "{key}"}}', "m1", 0.25, 0.5)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=8))
@settings(max_examples=30, deadline=None)
def test_each_key_is_stored_once_in_order_of_arrival(tmp_path_factory: pytest.TempPathFactory, calls: list) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.sqlite")
    expected: list[str] = []
    for keys in calls:
        new = list(dict.fromkeys(key for key in keys if key not in expected))
        assert journal.append([entry(key) for key in keys]) == set(new)
        expected += new
    assert [stored.key for stored in journal.oldest(100)] == expected
    assert len(journal) == len(expected)
    journal.close()


def test_held_entries_wait_until_the_release(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([entry("a"), entry("b")])
    journal.remove([entry("a")])
    journal.hold()
    journal.append([entry("b"), entry("c")])
    assert [stored.key for stored in journal.oldest(10)] == ["b"]
    journal.remove([entry("b")])
    assert journal.oldest(10) == []
    assert len(journal) == 1
    journal.release()
    assert [stored.key for stored in journal.oldest(10)] == ["c"]
    journal.close()
    again = Journal(tmp_path / "journal.sqlite")
    again.remove([entry("c")])
    again.hold()
    again.append([entry("d")])
    assert again.oldest(10) == []
    again.close()


def test_journal_of_the_first_release_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute(
            "CREATE TABLE entry (position INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, "
            "row TEXT NOT NULL, model TEXT, probability REAL, reward REAL)"
        )
        old.execute("INSERT INTO entry (key, row, model, probability, reward) VALUES ('a', '{}', 'm1', 0.25, 0.5)")
    journal = Journal(path)
    journal.append([Entry("b", "{}", "m1", 1.0, 1.0, "remembered")])
    assert [(stored.key, stored.source) for stored in journal.oldest(10)] == [("a", None), ("b", "remembered")]
    journal.close()


def test_removed_entries_are_gone_after_a_restart_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite"
    journal = Journal(path)
    journal.append([entry(key) for key in "abcd"])
    journal.remove([entry("b"), entry("c"), entry("not there")])
    assert len(journal) == 2
    journal.close()
    again = Journal(path)
    assert again.oldest(10) == [entry("a"), entry("d")]
    assert len(again) == 2
    again.close()


def test_kill_9_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    path, chance, acknowledged = tmp_path / "journal.sqlite", random.Random(5), -1
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(path), str(acknowledged + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            printed = "".join(process.stdout.readline() for _ in range(chance.randrange(1, 60)))
            os.kill(process.pid, signal.SIGKILL)
            lines = (printed + process.stdout.read()).split()
        acknowledged = max([acknowledged + 1, *map(int, lines)])
        journal = Journal(path)
        keys = {stored.key for stored in journal.oldest(10_000_000)}
        journal.close()
        assert {f"k{number}-{part}" for number in range(acknowledged + 1) for part in range(8)} <= keys
        assert len(keys) % 8 == 0  # appends are atomic


def test_corrupt_file_and_closed_journal_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptStoreError, match=str(path)):
        Journal(path)
    path.unlink()
    journal = Journal(path)
    journal.close()
    with pytest.raises(StoreError, match="failed"):
        journal.append([entry("a")])


def test_full_disk_stores_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([entry("a")])
    journal._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFullError, match="no space"):
        journal.append([Entry(f"k{number}", "x" * 5000, None, None, None) for number in range(100)])
    assert [stored.key for stored in journal.oldest(10)] == ["a"]
    assert len(journal) == 1
    journal.close()
