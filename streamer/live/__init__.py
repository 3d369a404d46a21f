"""Runs a night: the engine, a supervisor for each sleeper, the live loop, and the restart after a crash."""
