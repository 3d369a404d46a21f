"""A night: when it ends, what it is afterwards, and what is made of it in the morning."""
