"""The network on a server, behind the same interface as the one in this process."""
