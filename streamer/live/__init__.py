"""What runs a night: the engine, a supervisor for each sleeper, the live loop, and going on after a death."""
