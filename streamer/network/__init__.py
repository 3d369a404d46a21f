"""The network: which file, what it promises, what runs it, and what it remembers of each sleeper."""
