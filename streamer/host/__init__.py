"""The machine around the engine: its files, its output, its libraries."""
