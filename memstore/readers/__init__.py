"""Readers of rollout files: each yields `memstore.record.Row`s."""
