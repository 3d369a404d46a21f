"""Faults against the real engine, and proof of what survived: `python -m tools.chaos --help`."""
