"""A night: when it ends, its session as a whole, its statistics, scorings by others, and its report."""
