"""Benchmarks as questions: thirteen bundled ones, and any that a file declares.

load.py          load questions from a benchmark, a declaration or a file of queries
declaration.py   the format of a benchmark's declaration
sets/            the declarations of the bundled benchmarks
registry.py      the bundled benchmarks by name, and their local copies
fetch.py         load rows from the hub or a local copy, with the datasets library
rows.py          turn a row into a question
splits.py        seeded order, splits and labelled questions
query_files.py   read a file of queries
"""

from memstore_rl.benchmarks.declaration import Declaration, read_declaration
from memstore_rl.benchmarks.load import BenchmarkSample, questions, sample
from memstore_rl.benchmarks.query_files import questions_of_file
from memstore_rl.benchmarks.registry import benchmarks, cached, declaration_of, local_copy
from memstore_rl.benchmarks.splits import labelled_ids

__all__ = [
    "BenchmarkSample",
    "Declaration",
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
