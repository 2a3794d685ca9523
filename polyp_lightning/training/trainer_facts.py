"""What a trainer's pruning callback and data module say, by their attributes: neither is imported."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from polyp_lightning.checkpoints.stages import StageRecord


def pruning_callback(trainer: Trainer) -> Callback | None:
    """The callback that prunes, known by its ``history`` (list) and ``stage`` (int); None where nothing prunes."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(getattr(callback, "history", None), list) and isinstance(getattr(callback, "stage", None), int):
            return callback  # type: ignore[no-any-return]
    return None


def stage_history(trainer: Trainer) -> list[StageRecord]:
    """The stages so far, the dense one first; empty where nothing prunes."""
    return list(getattr(pruning_callback(trainer), "history", []))


def current_stage(trainer: Trainer) -> int:
    """How many cuts have been made; 0 where nothing prunes."""
    return int(getattr(pruning_callback(trainer), "stage", 0))


def cuts_to_come(trainer: Trainer) -> bool:
    """Whether the network will be cut after the current epoch; False where nothing prunes."""
    cuts_after = getattr(pruning_callback(trainer), "cuts_after", None)
    return bool(cuts_after(trainer.current_epoch)) if callable(cuts_after) else False


def data_facts(trainer: Trainer) -> dict[str, Any]:
    """The data in use by the data module's ``describe()`` (name, split, protocol, counts, size); empty without one."""
    describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
    return dict(describe()) if callable(describe) else {}


def image_size(trainer: Trainer) -> int:
    """Side of the square network input in pixels, from the data module or the module; 0 where neither has it."""
    for source in (getattr(trainer, "datamodule", None), trainer.lightning_module):
        size = getattr(source, "image_size", None)
        if isinstance(size, int):
            return size
    return 0


def run_folder(trainer: Trainer) -> Path:
    """The folder that holds all of this run's files."""
    return Path(trainer.default_root_dir)


def set_names(trainer: Trainer, loaders: Any) -> list[str]:
    """The names of test or predict sets: the data module's ``test_names``, or numbers."""
    count = len(loaders) if isinstance(loaders, list | tuple) else 1
    datamodule: Any = getattr(trainer, "datamodule", None)
    names = list(getattr(datamodule, "test_names", None) or [])
    return names if len(names) == count else [str(index) for index in range(count)]


def folders_of_sets(trainer: Trainer, loaders: Any) -> list[str]:
    """The names of test or predict sets where there are several; ``[""]`` for a single one."""
    names = set_names(trainer, loaders)
    return names if len(names) > 1 else [""]
