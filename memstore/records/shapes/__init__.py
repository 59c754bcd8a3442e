"""Shapes: the layouts of rows that tools write, and how each becomes rollouts.

shape.py        `Shape`, one entry of the table
trainers.py     prime-rl, verifiers, NeMo-RL, AReaL, SkyRL, ART, agent-lightning
events.py       agent-lightning 1.0's events
logtree.py      tinker-cookbook's transcripts
evaluations.py  Inspect, lm-eval, lighteval, OpenAI batches
data_sets.py    several generations a row, conversations, instructions
recognise.py    the table, and the shape of a row

A new shape is one `Shape` in the table: a name, the keys that every such row has, and a function that yields its
rollouts.
"""
