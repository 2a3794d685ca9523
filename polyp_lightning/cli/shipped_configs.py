"""The configurations that come with the package, by name: ``--config kvasir``."""

import re
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.flag_values import replace_values
from polyp_lightning.common.errors import ConfigError, nearest

_PACKAGE = Path(__file__).parent.parent
CONFIGS = (_PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent) / "configs"
"""The shipped configurations: an installed package holds them; in a checkout, they lie beside it."""


def use_shipped(options: Sequence[str]) -> list[str]:
    """Replaces the name of a shipped configuration by its file, wherever ``--config`` names one.

    A file of the user's own that is called alike comes first.

    Raises:
        ConfigError: there is neither a file nor a configuration of that name.
    """
    return replace_values(options, ("--config",), _find)


def _find(name: str, flag: str) -> str:
    if Path(name).exists() or not re.fullmatch(r"[\w-]+", name):
        return name
    shipped = {path.stem: path for path in CONFIGS.glob("*.yaml")}
    if name not in shipped:
        msg = f"{flag} {name} is neither a file nor one that comes with the package. {nearest(name, shipped)}"
        raise ConfigError(msg)
    return str(shipped[name])
