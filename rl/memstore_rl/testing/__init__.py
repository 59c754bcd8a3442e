"""Test doubles for rollouts: a stub of an OpenAI-compatible server, and addition queries for it."""
