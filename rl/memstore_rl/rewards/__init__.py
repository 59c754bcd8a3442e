"""Rewards: one for each rollout of a group.

reward.py         `Group`, `RewardQuery`, `Rollout` and `Reward`
group.py          `GroupScorer`: ground truth for labelled queries, the reward model for the rest
tasks.py          validates groups
assembly.py       verdicts and predictions become rewards
memory_model.py   a reward model with the memory it reads
shaping.py        turns a probability into a reward
known.py          what a memory knows without a reward model: queries and verdicts
verdict_mode.py   mode verdict: rewards from verdicts on answers
verdicts.py       buys verdicts within a budget, and keeps them
verifier_budget.py, verifier_queue.py   limits of the calls; calls verifiers in a thread of its own
gauge.py          measures whether the memory helps the policy, and stops its predictions if not
majorities.py     whether the most frequent answer to a query changes between steps
vote_drift.py     detects groups that vote differently from the training groups
"""
