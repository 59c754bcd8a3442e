"""Rewards for policy optimisation.

rewards.py        what a trainer asks and what it gets back
group.py          the one core: ground truth where a query is labelled, the reward model elsewhere
memory_model.py   a reward model and the memory it reads
shaping.py        from a probability to a reward
watch.py          do the groups that are scored vote like those that the model learnt from?
verifiers/        ground truth: an answer held against its gold
sandbox/          where programs are run
budget.py         which queries are trained on, and which of those are labelled
service/          the reward service and its clients
verl/             training data, hooks, configuration and checks for verl
trl.py            a reward function for TRL
question.py       a query that a policy is to answer, and how it is asked
grade/            rollouts turned into a policy's score
benchmarks/       questions by a benchmark's name, by a user's declaration, or from a file
rollout/          questions asked of a policy, and the answers kept
testing/          stand-ins for an endpoint and for what is asked of it
"""
