"""Where this project's own part of a checkpoint lies."""

KEY = "polyp_lightning"
"""The project's own entry in a checkpoint."""

SCHEMA = 1
"""The layout of that entry."""
