"""The dense run beside a pruned one, of equal training, whose Dice the pruned run's picture shows."""

from pathlib import Path
from typing import Any

from polyp_lightning.callbacks.picture import pareto_png, read_pareto_csv
from polyp_lightning.checkpoints.run_folder import read_config
from polyp_lightning.checkpoints.stages import StageRecord

_SUFFIX = "-dense"
_NOT_TRAINING = ("trainer.default_root_dir", "trainer.logger", "data.num_workers", "data.root", "data.cache_dir")


def place_dense(folder: Path) -> Path:
    """The folder in which the dense run beside a run is looked for."""
    whole = folder.resolve()
    return whole.with_name(whole.name + _SUFFIX)


def find_dense_dice(folder: Path) -> float | None:
    """Reads the validation Dice with which the dense run beside a run ended.

    Returns:
        None where there is no such run, or one with other options than the pruned one's.
    """
    beside = place_dense(folder)
    if not _alike(_training(folder), _training(beside)):
        return None
    stages = _read_stages(beside)
    return stages[0].score_end if len(stages) == 1 else None


def show_beside(dense: Path, caption: str) -> Path | None:
    """Draws the picture of the pruned run anew for which a dense run has ended, and returns its path.

    Returns:
        None where the dense run is no pruned run's control.
    """
    whole = dense.resolve()
    pruned = whole.with_name(whole.name.removesuffix(_SUFFIX))
    if pruned == whole or (dice := find_dense_dice(pruned)) is None:
        return None
    return pareto_png(_read_stages(pruned), pruned / "pareto.png", caption, dice)


def _read_stages(folder: Path) -> list[StageRecord]:
    table = folder / "pareto.csv"
    return read_pareto_csv(table) if table.is_file() else []


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all options are equal that both runs know; later versions may have more."""
    known = one.keys() & other.keys()
    return bool(known) and all(one[key] == other[key] for key in known)


def _training(folder: Path) -> dict[str, Any]:
    """The options that decide a training, but for pruning; empty where no configuration was saved."""
    config = read_config(folder)
    groups = {name: config.get(name) or {} for name in ("data", "model", "trainer")}
    found = {f"{name}.{key}": value for name, options in groups.items() for key, value in options.items()}
    found |= {key: config[key] for key in ("seed_everything",) if key in config}
    return {key: value for key, value in found.items() if key not in _NOT_TRAINING}
