"""What lies in the folders that a report is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from polyp_lightning.callbacks.picture import read_pareto_csv
from polyp_lightning.checkpoints.run_folder import best_checkpoints, read_config
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study.curve import CurvePoint, read_curve
from polyp_lightning.study.results import IMAGES, RESULTS, RUNS, ImageScore, Result, read_images, read_results


@dataclass(frozen=True)
class FitRun:
    """What `fit` has left in a folder.

    Attributes:
        stages: the dense one first; empty where nothing is known of them.
        facts: what the DataModule said of the data.
        versions: of what wrote the checkpoint.
        config: every option; empty where the run was started from Python.
        best: the checkpoint of the best epoch, by stage.
    """

    folder: Path
    stages: list[StageRecord] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    best: Mapping[int, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def option(self, part: str, name: str) -> Any:
        """The value of an option such as ``model.arch``; None where it is not known."""
        values = self.config.get(part)
        return values.get(name) if isinstance(values, Mapping) else None


@dataclass(frozen=True)
class Study:
    """What a study has left in a folder: one row for each run and test set."""

    folder: Path
    rows: list[Result]

    @cached_property
    def images(self) -> dict[str, list[ImageScore]]:
        """The values of single images by run, of the runs that have left them in the folder; read once."""
        folders = {row.run: self.folder / RUNS / row.run for row in self.rows}
        return {run: read_images(folder) for run, folder in folders.items() if (folder / IMAGES).is_file()}


@dataclass(frozen=True)
class Curve:
    """The points of a study's curve alone, as the report has written them."""

    folder: Path
    points: list[CurvePoint]


def read_source(folder: Path) -> FitRun | Study | Curve:
    """Reads what a folder holds, or the file of a curve.

    Raises:
        ConfigError: neither `fit` nor a study has written it, or a checkpoint in it is damaged.
        DataError: its table, or the file, is damaged.
    """
    if folder.suffix == ".csv":
        return Curve(folder, read_curve(folder))
    if (folder / RESULTS).is_file():
        return Study(folder, read_results(folder))
    if not any((folder / name).exists() for name in ("checkpoints", "pareto.csv")):
        what = "there is no such folder" if not folder.exists() else "it holds neither"
        msg = (
            f"{folder} can't be reported on: {what}; name a folder that `fit` has written (with checkpoints/ or "
            f"pareto.csv) or one of a study (with {RESULTS})"
        )
        raise ConfigError(msg)
    return _fit_run(folder)


def _fit_run(folder: Path) -> FitRun:
    best = best_checkpoints(folder / "checkpoints")
    newest = next((path for path in (folder / "checkpoints" / "last.ckpt", *best.values()) if path.is_file()), None)
    options = read_config(folder)
    if newest is None:
        table = folder / "pareto.csv"
        return FitRun(folder, read_pareto_csv(table) if table.is_file() else [], config=options)
    stages, facts, versions = read_checkpoint(newest)
    return FitRun(folder, stages, facts, versions, options, best)


def read_checkpoint(checkpoint: Path) -> tuple[list[StageRecord], dict[str, Any], dict[str, str]]:
    """Reads a checkpoint's stages, facts of the data and versions."""
    # Takes Lightning along, seconds that a study's table alone does not need.
    from polyp_lightning.checkpoints.record import read_record

    record = read_record(checkpoint, "RUNS")
    states = [state for name, state in record.callbacks.items() if "Pruning" in name]
    history = states[0].get("history", []) if states else []
    return [StageRecord.from_dict(row) for row in history], record.data, record.versions
