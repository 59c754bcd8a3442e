"""Runs untrusted programs against tests; see docs/code_rewards.md.

pool.py         `Sandbox`: a pool of pairs of boxes
outcome.py      resource limits and outcomes
gold.py         reads tests from a gold answer: function calls, or input and output
prompt.py       reads code from a query: helpers for the tests, the beginning of the program
run_calls.py    tests that call the program's functions
run_script.py   tests that run the program with input and compare its output
box.py          one bubblewrap process and the children forked in it
bubblewrap.py   the bubblewrap command, and why a box cannot be built
seccomp.py      the system call filter
reading.py      bounded reads from a file descriptor
inside/         code that runs inside a box
"""

from memstore_rl.sandbox.gold import CallTests, Case, ScriptTests, Tests, read_tests
from memstore_rl.sandbox.outcome import Kind, Limits, Outcome
from memstore_rl.sandbox.pool import Sandbox

__all__ = ["CallTests", "Case", "Kind", "Limits", "Outcome", "Sandbox", "ScriptTests", "Tests", "read_tests"]
