"""A whole Home Assistant core beside the engine: what each makes of the other through a night."""
