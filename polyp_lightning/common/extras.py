"""The package's extras: which of them a missing module belongs to."""

import importlib
import re
from collections import Counter
from importlib import metadata
from typing import Any

from polyp_lightning.common.errors import ConfigError

_PACKAGE = "polyp-lightning"
_REQUIREMENT = re.compile(rf"^(?!{_PACKAGE}\b)([\w.-]+).*extra == ['\"]([\w-]+)['\"]")


def need(module: str) -> Any:
    """Imports a module of an extra.

    Raises:
        ConfigError: it is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise explain_missing(error, module) from error


def explain_missing(error: ImportError, module: str) -> ConfigError:
    """Makes the error that says how to install a module which could not be imported."""
    name, extra = module.partition(".")[0], find_extra(module) or "train"
    msg = f"{name} is needed for this and can't be imported ({error}): pip install '{_PACKAGE}[{extra}]'"
    return ConfigError(msg)


def find_extra(module: str) -> str | None:
    """Returns the smallest extra that brings a module, by the installed package's metadata; None where none does."""
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    name = module.partition(".")[0].lower()
    found = [match.groups() for match in map(_REQUIREMENT.match, requirements) if match]
    sizes = Counter(extra for _, extra in found)
    # PyPI's pyyaml is Python's yaml; all others are called alike.
    fits = [extra for package, extra in found if re.sub(r"[-.]+", "_", package).lower() in (name, f"py{name}")]
    return min(fits, key=sizes.__getitem__, default=None)
