"""Training data from a memory: its scored rollouts for supervised fine-tuning and for preference optimisation.

candidates.py   the rollouts with a reward, and how many are left out and why
select.py       the best rollouts of a query, and pairs of a better and a worse one
template.py     how prompt and completion are put together
rows.py         rows with their texts, read in blocks
files.py        writes JSON lines, Parquet, or a folder for `datasets`
card.py         the README of such a folder
export.py       `export_best` and `export_pairs`, which the command calls
"""
