"""The live page.

What it knows is in `page.py` and `state.py`, other channels are in `traces.py`, and what a client lacks in
`view.py`; who may see it is in `access.py`, and how it is served in `server.py`.
"""
