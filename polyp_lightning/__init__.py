"""Trains a polyp segmentation network and removes its least important filters while it trains.

The rooms, each of which imports only from those below it:

- ``cli``: the command line, one file per verb.
- ``report``: one page about runs and studies.
- ``study``: lists of trainings and tests, and what they show about pruning.
- ``tracking``: Weights & Biases; no other room knows it.
- ``callbacks``: what happens while Lightning trains: cuts, checkpoints of every stage, progress, tables, masks.
- ``training``: the LightningModule: loss, optimizer, distillation, resuming.
- ``deploy``: exported models: writing, running and measuring them, and video.
- ``checkpoints``: what a checkpoint and a run's folder hold.
- ``networks``: networks by name, their losses and what they cost.
- ``metrics``: how good a segmentation is.
- ``data``: data sets, from files to batches.
- ``pruning``: exact removal of filters, usable without Lightning.
- ``common``: what every room may use: errors, files, tables, the terminal, the machine.

The order is that of the contract ``rooms`` in ``pyproject.toml``, which ``lint-imports`` holds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyp_lightning.common.version import VERSION

if TYPE_CHECKING:
    from polyp_lightning.deploy.predictor import load

__version__ = VERSION

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports :func:`~polyp_lightning.deploy.predictor.load` when it is asked for: every import of a part runs this."""
    if name != "load":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return import_module(f"{__name__}.deploy.predictor").load
