"""Rollouts from a policy: questions are asked, answers are kept, and what is missing is asked again."""
