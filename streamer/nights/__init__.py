"""A night has an end: its rules, what is written in the morning, and how the next night begins."""
