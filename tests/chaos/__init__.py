"""Faults against the real engine, and proof of what survived: `python -m tests.chaos --help`."""
