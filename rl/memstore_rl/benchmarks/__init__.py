"""Benchmarks as questions, by name.

load.py     questions by a benchmark's name, from a file of queries, or by a user's declaration
files.py    a file of queries
"""

from memstore_rl.benchmarks.load import questions

__all__ = ["questions"]
