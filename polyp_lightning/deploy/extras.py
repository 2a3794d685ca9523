"""Packages of the extra ``deploy``: imported when they are needed, and kept quiet."""

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyp_lightning.common.errors import ConfigError

_INSTALL = "pip install 'polyp-lightning[deploy]'"


def need(module: str) -> Any:
    """Imports a package of the extra ``deploy``.

    OpenVINO's and NNCF's usage reports are switched off first: a hospital's machine has no business to make any.

    Raises:
        ConfigError: it is not installed; the message holds the command that installs it.
    """
    package = module.partition(".")[0]
    if package in ("openvino", "nncf"):
        # Both fall back to a stub that does nothing where this package can't be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = f"{package} is needed for this and can't be imported ({error}): {_INSTALL}"
        raise ConfigError(msg) from error


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Hides the exporters' remarks on their own deprecations and versions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
