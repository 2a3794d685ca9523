"""Lightning callbacks: pruning while training, checkpoints of every stage, progress, tables and masks.

Importing :class:`TaylorFOPruning` from here takes PyTorch, Lightning, NumPy and SciPy, and nothing of what this project
has for polyps.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyp_lightning.callbacks.averaging import PrunableEMA
    from polyp_lightning.callbacks.early_stopping import TailEarlyStopping
    from polyp_lightning.callbacks.pruning import TaylorFOPruning
    from polyp_lightning.callbacks.stage_checkpoints import StageCheckpoint
    from polyp_lightning.callbacks.stored_plan import load_from_checkpoint

_HOMES = {
    "PrunableEMA": "averaging",
    "StageCheckpoint": "stage_checkpoints",
    "TailEarlyStopping": "early_stopping",
    "TaylorFOPruning": "pruning",
    "load_from_checkpoint": "stored_plan",
}

__all__ = ["PrunableEMA", "StageCheckpoint", "TailEarlyStopping", "TaylorFOPruning", "load_from_checkpoint"]


def __getattr__(name: str) -> Any:
    """Imports a name's own module when it is asked for."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
