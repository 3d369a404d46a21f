"""`sleepstream doctor`: collects facts about the machine (`examination.py`) and judges them (`checks.py`)."""
