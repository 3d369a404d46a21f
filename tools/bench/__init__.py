"""Figures of speed and memory: `python -m tools.bench`, each group of figures a module (or folder) of it.

A module has `measure(asked: Asked) -> Figures`, imports what is optional inside it, and may say what is
wanted of its figures: `WANTED = {"night_s": ("<=", 10.0)}`. Named in `PARTS` of `__main__.py`, it is part of
the command. Ratios compare two things measured in turn, in the same minute. Nothing here is asserted in a
test: machines differ and are shared.
"""

import os

# Before anything that reads them is loaded: a figure is of one thread unless it says otherwise.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
