"""Process-level helpers.

retry.py       retry policy for calls to servers
processes.py   worker processes with limits that are enforced from outside
"""
