"""The live page: what it knows (`page.py`), who may see it (`access.py`), how it is served (`server.py`)."""
