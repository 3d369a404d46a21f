"""The machine around the engine: private files, locks, standard output, silenced libraries."""
