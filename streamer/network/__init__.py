"""Loads and runs the network, and keeps each sleeper's state."""
