"""Test doubles, conformance suites and test servers for store backends."""
