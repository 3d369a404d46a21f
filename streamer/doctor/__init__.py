"""`sleepstream doctor`: looks for known traps (`examination.py`) and judges them (`checks.py`)."""
