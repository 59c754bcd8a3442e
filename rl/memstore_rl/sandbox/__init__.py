"""Programs that nobody has read, run against tests: see docs/code_rewards.md.

pool.py         `Sandbox`: pairs of boxes, a program at a time in each
outcome.py      what a program may use, and what it came to
gold.py         what a gold answer says: function calls, or input and output
prompt.py       what a query shows: helpers for the tests, a beginning for the program
run_calls.py    a program whose functions are called
run_script.py   a program that reads and prints
box.py          one bubblewrap process and the children that are forked in it
bubblewrap.py   what a box can see, and why none can be built here
seccomp.py      which system calls a program has
inside/         what runs in a box
"""

from memstore_rl.sandbox.gold import CallTests, Case, ScriptTests, Tests, read_tests
from memstore_rl.sandbox.outcome import Kind, Limits, Outcome
from memstore_rl.sandbox.pool import Sandbox

__all__ = ["CallTests", "Case", "Kind", "Limits", "Outcome", "Sandbox", "ScriptTests", "Tests", "read_tests"]
