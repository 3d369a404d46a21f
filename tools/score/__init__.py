"""An archive of recordings, staged in parallel: `python -m tools.score --help`."""
