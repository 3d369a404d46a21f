"""Acts for one sleeper: triggers, the smart alarm, and their actions."""
