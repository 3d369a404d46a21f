"""The network and how it is trained; nothing here ships in the wheel."""
