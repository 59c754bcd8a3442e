"""Rewards of a memory for verl: a group at once, ground truth where the row has it, the reward model elsewhere.

source.py       queries to train on, from files or a memory
data.py         Parquet for each mode and label budget, without the gold of unlabelled rows
settings.py     what the block `memstore` of a verl configuration says
rows.py         a verl row as `Query` and `Rollout`
gather.py       the rollouts of a group wait for each other without holding anything
token.py        the service's token, from a file
scorers.py      who scores a group: a Ray actor that owns the memory, or the reward service
reply.py        a `Reward` as verl wants it
stop.py         a step that cannot be scored ends the training instead of being trained on without rewards
manager.py      reward-loop manager (verl 0.7.1 and later)
agent_loop.py   groups inside the agent-loop worker (verl 0.9, v1 trainer)
sampler.py      shares of ground truth and prediction among verl's training metrics (verl 0.9, v1 trainer)
batch.py        batch reward function (verl 0.7.0 and earlier)
config.py       the overrides for a version
check.py        would verl with these overrides really call us?
"""
