"""The package's version, for its own modules: importing the package's front would turn the order of the rooms round."""

VERSION = "0.1.0"
"""As in ``pyproject.toml``."""
