"""What the engine does by itself for one sleeper: triggers, the smart alarm, and what these set off."""
