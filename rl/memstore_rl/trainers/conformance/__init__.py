"""Conformance of hooks: what every hook does, whatever its trainer.

service.py   a reward service that notes what a hook sends
driver.py    `HookDriver`: a step of training and an evaluation, as a trainer makes them
checks.py    the checks, for `memstore hook check` and the tests
drivers/     one driver a trainer
"""
