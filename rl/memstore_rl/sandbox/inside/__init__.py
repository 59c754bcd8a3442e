"""Code that runs inside a box. It is mounted read-only and run by the bare interpreter: standard library only.

A box runs a `zygote`, which forks one confined child per task: a `guest`, which runs the program, or a `judge`, which
runs the tests. Guest and judge exchange `frames`, which hold plain `values`.
"""
