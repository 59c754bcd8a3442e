"""Benchmarks as questions: thirteen by name, and any that a file declares.

load.py          questions by a benchmark's name, from a file of queries, or by a user's declaration
declaration.py   what a benchmark is, as a file of ten lines says it
sets/            the benchmarks that come with memstore, as such files
names.py         those by name, and where copies of them lie
fetch.py         rows, from the hub or a local copy, through the library datasets
rows.py          a row as a question
sample.py        which questions are drawn, for training, validation or testing, and which are labelled
files.py         a file of queries
"""

from memstore_rl.benchmarks.declaration import Declaration, read_declaration
from memstore_rl.benchmarks.files import questions_of_file
from memstore_rl.benchmarks.load import Sample, questions, sample
from memstore_rl.benchmarks.names import benchmarks, cached, declaration_of, local_copy
from memstore_rl.benchmarks.sample import labelled_ids

__all__ = [
    "Declaration",
    "Sample",
    "benchmarks",
    "cached",
    "declaration_of",
    "labelled_ids",
    "local_copy",
    "questions",
    "questions_of_file",
    "read_declaration",
    "sample",
]
