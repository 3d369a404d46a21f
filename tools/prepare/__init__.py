"""Prepares scored recordings for training and evaluation: `python -m tools.prepare --help`."""
