"""The commands that are one file each; `report/`, `exports/` and `doctor/` are the larger ones."""
