"""Snapshots: frozen, columnar copies of a memory."""
