"""Rewards: one for each rollout of a group.

reward.py         `Group`, `RewardQuery`, `Rollout` and `Reward`
group.py          `GroupScorer`: ground truth for labelled queries, the reward model for the rest
tasks.py          validates groups
assembly.py       verdicts and predictions become rewards
memory_model.py   a reward model with the memory it reads
shaping.py        turns a probability into a reward
vote_drift.py     detects groups that vote differently from the training groups
"""
