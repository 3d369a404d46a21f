"""A night: when it ends, its session as a whole, its statistics, and its report in the morning."""
