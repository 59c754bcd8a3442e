"""Ground truth: an answer held against its gold, by domain.

protocol.py   what a verifier is
"""
