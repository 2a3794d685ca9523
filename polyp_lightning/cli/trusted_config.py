"""Reading a configuration that lies beside a checkpoint, which may be a stranger's."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.cli.moved_classes import use_new_names
from polyp_lightning.common.errors import ConfigError, join_names
from polyp_lightning.networks.names import check_named

# Options that name a class to be imported and called, and whose classes a configuration may name on its own.
_IMPORTING = {
    "class_path",
    "optimizer",
    "lr_scheduler",
    "accelerator",
    "strategy",
    "logger",
    "callbacks",
    "profiler",
    "plugins",
}
# Options that are tables; a text in place of one would be the name of another file, which nobody has looked into.
_TABLES = {"config", "model", "data", "trainer", "pruning", "masks", "options", "limits", "arch_options", "init_args"}
_KNOWN = re.compile(
    r"(polyp_lightning(\.[a-z_]+){0,2}|torch\.optim(\.[a-z_]+)?|lightning\.pytorch\.(callbacks|loggers)(\.[a-z_]+)?)\.[A-Z]\w*"
)
# These call any function that they are given the name of.
_CALLERS = ("Lambda", "Multiplicative", "ModelPruning", "Finetuning", "WeightAveraging", "StochasticWeight")


def read_trusted(config: Path, named: Collection[str] = ()) -> dict[str, Any]:
    """Reads a configuration, if using it can't run a stranger's code; what the user has ``named`` is no stranger's.

    Raises:
        ConfigError: it is no configuration, or it names a class other than this project's, torch's optimizers or
            Lightning's callbacks and loggers; or it names further files.
        UnnamedClassError: it names a network of the user's own, and the user has not.
    """
    try:
        content = yaml.safe_load(use_new_names(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"{config} can't be read: {error}; give the run's options yourself with --config"
        raise ConfigError(msg) from error
    if not isinstance(content, dict):
        msg = f"{config} is not a configuration; give the run's options yourself with --config"
        raise ConfigError(msg)
    arch = content.get("model", {}).get("arch") if isinstance(content.get("model"), dict) else None
    if isinstance(arch, str):
        check_named(arch, named)
    others = sorted(set(_find_files(content)))
    if others:
        msg = (
            f"{config} lies beside the checkpoint and would read further files ({join_names(others)}); if you trust "
            f"it, say so with --config {config}"
        )
        raise ConfigError(msg)
    strange = sorted({name for name in _find_classes(content) if not is_known(name)})
    if strange:
        msg = (
            f"{config} lies beside the checkpoint and would import {join_names(strange)}, which is neither of this "
            f"project nor of torch.optim; if you trust it, say so with --config {config}"
        )
        raise ConfigError(msg)
    return content


def is_known(class_path: str) -> bool:
    """Tells whether a class may be imported because a configuration beside a checkpoint names it.

    >>> is_known("torch.optim.AdamW"), is_known("subprocess.Popen")
    (True, False)
    """
    return _KNOWN.fullmatch(class_path) is not None and not any(caller in class_path for caller in _CALLERS)


def _find_files(content: Any) -> Iterator[str]:
    """Yields every text that the parser would take for the name of a file of options."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name in _TABLES and isinstance(value, (str, list)):
                yield f"{name}: {value}"
            elif name != "arch_options":
                # These have names of their own.
                yield from _find_files(value)
    elif isinstance(content, list):
        for value in content:
            yield from _find_files(value)


def _find_classes(content: Any, key: str = "") -> Iterator[str]:
    """Yields every string of a configuration that could be imported."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _find_classes(value, str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _find_classes(value, key)
    elif isinstance(content, str) and key in _IMPORTING and "." in content:
        yield content
