"""What the engine does on its own for one sleeper: triggers, the smart alarm, and their actions."""
