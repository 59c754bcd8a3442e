"""Process-level helpers.

threads.py     independent calculations in threads
shared_lock.py a lock of readers and writers
retry.py       retry policy for calls to servers
fair_queue.py  workers shared fairly among clients
processes.py   worker processes with limits that are enforced from outside
disk_space.py  errors that mean that no space is left
free_memory.py memory that is returned to the system
"""
