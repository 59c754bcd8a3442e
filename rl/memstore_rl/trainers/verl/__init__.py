"""Reward hooks for verl: groups scored together, ground truth for labelled rows, the reward model for the rest.

data.py           Parquet files for each mode and label budget, without the gold answers of unlabelled rows
settings.py       the `memstore` block of a verl configuration
rows.py           converts a verl row to a `RewardQuery`
group_barrier.py  rollouts wait for their group
token.py          reads the service's token from a file
scorers.py        scoring by a Ray actor that owns the memory, or by the reward service
reply.py          converts a `Reward` to verl's `reward_extra_info`
stop.py           ends the training when a step cannot be scored
manager.py        reward-loop manager (verl 0.7.1 and later)
agent_loop.py     group scoring inside the agent-loop worker (verl 0.9, v1 trainer)
sampler.py        shares of ground truth and predictions in verl's metrics (verl 0.9, v1 trainer)
batch.py          batch reward function (verl 0.7.0 and earlier)
config.py         overrides for each version of verl
check.py          checks that verl would load the hooks
"""
