"""What runs inside a sandbox: mounted there read-only and run by the bare interpreter, so only the standard library.

A box holds a `zygote`, which forks one confined child a task: a `guest`, which runs the program, or a `judge`, which
runs the tests. They talk in frames of `frames`, whose values are those of `values`.
"""
