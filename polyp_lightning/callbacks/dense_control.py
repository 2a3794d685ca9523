"""The dense run beside a pruned one, of equal training, whose Dice the pruned run's picture shows."""

from pathlib import Path
from typing import Any

from polyp_lightning.callbacks.picture import pareto_png, read_pareto_csv
from polyp_lightning.checkpoints.run_folder import read_config, training_options
from polyp_lightning.checkpoints.stages import StageRecord

_SUFFIX = "-dense"


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
    options = _training(folder)
    if not options or options != _training(beside):
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


def _training(folder: Path) -> dict[str, Any]:
    """What decides a run's training, but for pruning; empty where no configuration was saved."""
    config = read_config(folder)
    data = config.get("data") or {}
    chosen = {key: data.get(key) for key in ("name", "root", "split", "image_size", "seed", "shares", "phantom_frames")}
    return {**chosen, **training_options(config)} if config else {}
