"""Rollouts turned into a policy's score; see docs/grade.md.

reading.py       files of rollouts, each rollout once
verdicts.py      where the reward of a sample comes from
tallies.py       what is counted, by policy, dataset and query
estimates.py     pass@k and majority@k of one query
figures.py       figures of a dataset and over datasets, as ratios of sums over queries
intervals.py     bootstrap over queries
compare.py       two policies on the same queries
report.py        what is told: lines, comparison, notes, the JSON document
sample_lines.py  the samples as JSON lines
plots.py         a picture
grading.py       all of it, from files to a report
"""

from memstore_rl.grade.grading import GradeOptions, grade_files
from memstore_rl.grade.report import Report

__all__ = ["GradeOptions", "Report", "grade_files"]
