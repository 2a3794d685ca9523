"""Class names of before a move of modules, which the configurations of older runs still hold."""

import re

from jsonargparse import get_loader, set_loader
from yaml import YAMLError  # type: ignore[import-untyped]

# A class, the module that it is in today, and where it could be imported from before; all below polyp_lightning.
_MOVES = {
    "MaskWriter": ("callbacks.mask_writer", "prediction"),
    "PrunableEMA": ("callbacks.averaging", "pruning.averaging"),
    "ProgressBar": ("callbacks.progress", "tracking", "tracking.progress"),
    "ScoreWriter": ("callbacks.score_writer", "tracking", "tracking.scores"),
    "StageCheckpoint": ("callbacks.stage_checkpoints", "tracking", "tracking.checkpoints"),
    "StageSummary": ("callbacks.summary", "tracking", "tracking.summary"),
    "TailEarlyStopping": ("callbacks.early_stopping", "tracking", "tracking.stopping"),
    "TaylorFOPruning": ("callbacks.pruning", "pruning.callback"),
}
MOVED = {
    f"polyp_lightning.{module}.{name}": f"polyp_lightning.{today}.{name}"
    for name, (today, *before) in _MOVES.items()
    for module in before
}
"""Today's class path for each older one."""

_OLD = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, MOVED))})(?![\w.])")
_load_yaml = get_loader("yaml")


def use_new_names(text: str) -> str:
    """Replaces the old class paths in an option's or a configuration's text.

    >>> use_new_names("--trainer.callbacks+=polyp_lightning.tracking.TailEarlyStopping")
    '--trainer.callbacks+=polyp_lightning.callbacks.early_stopping.TailEarlyStopping'
    """
    return _OLD.sub(lambda found: MOVED[found[0]], text)


def accept_old_names() -> None:
    """Makes the parser of options read configurations with old class paths as if they had today's."""
    set_loader("yaml", lambda text: _load_yaml(use_new_names(text)), (YAMLError,))
