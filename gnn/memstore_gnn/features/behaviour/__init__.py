"""What programs do, found out by an interpreter that has no way out, and votes over it."""
