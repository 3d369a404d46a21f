"""`sleepstream doctor`: looks for every trap (`examination.py`), and judges what it finds (`checks.py`)."""
