"""Scored recordings into nights to learn from and to evaluate on: `python -m tools.prepare --help`."""
