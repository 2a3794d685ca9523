"""Packages that run or write exported models: imported when they are needed, and kept quiet."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyp_lightning.common import extras
from polyp_lightning.common.log_lines import hush


def need(module: str) -> Any:
    """Imports a package of the extras ``runtime`` and ``deploy``.

    OpenVINO's and NNCF's usage reports are switched off first: a hospital's machine has no business to make any.

    Raises:
        ConfigError: it is not installed; the message holds the command that installs it.
    """
    package = module.partition(".")[0]
    if package in ("openvino", "nncf"):
        # Both fall back to a stub that does nothing where this package can't be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return extras.need(module)


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Hides the exporters' remarks on their own deprecations and versions."""
    with hush("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
