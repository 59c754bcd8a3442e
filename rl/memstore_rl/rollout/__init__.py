"""Sample rollouts from a policy: ask each question n times, grade the answers, and resume after an interruption."""
