"""What programs do, found out without executing them as Python: an interpreter that has no way out, and votes over it."""
