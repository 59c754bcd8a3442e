"""Score policies by their rollouts; see docs/grade.md.

reader.py         read files of rollouts, each rollout once
verdicts.py       the reward of each sample, from a verifier or the file
counts.py         counts by policy, dataset and query
estimators.py     pass@k and majority@k of one query
metrics.py        metrics of a dataset and over datasets, as ratios of sums over queries
intervals.py      bootstrap intervals over queries
compare.py        compare two policies on the same queries
report.py         the report: lines, comparison, JSON document
report_notes.py   the notes below the table
sample_writer.py  write the graded samples as JSON lines
plots.py          plot a report
grading.py        from files to a report
"""

from memstore_rl.grade.grading import GradeOptions, grade_files
from memstore_rl.grade.report import Report

__all__ = ["GradeOptions", "Report", "grade_files"]
