"""One command for a machine with a GPU: whether it says what a CPU says, and how fast."""
