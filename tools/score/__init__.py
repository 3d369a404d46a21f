"""Stages an archive of recordings in parallel: `python -m tools.score --help`."""
