"""Checkpoints of a run that prunes: the best of every stage, the last epoch, and the pick among the stages."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from polyp_lightning.checkpoints.file import CheckpointIO
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError
from polyp_lightning.common.files import write_beside
from polyp_lightning.training.trainer_facts import current_stage, run_folder, stage_history

PICK = "pick.ckpt"
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
TOLERANCE = 0.01
"""Dice that the pick may stay below the best of all stages: less than what another seed changes."""


def pick(history: Sequence[StageRecord]) -> int | None:
    """The stage to take from the Pareto front of (GMACs, best validation Dice).

    Returns:
        The smallest network whose Dice is at most :data:`TOLERANCE` below the highest; None before any validation.
    """
    scored = [(row.gmacs, -row.score_best, row.stage) for row in history if row.score_best is not None]
    if not scored:
        return None
    highest = max(-loss for _, loss, _ in scored)
    return min(point for point in scored if -point[1] >= highest - TOLERANCE)[2]


class StageCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the highest ``val/dice`` of *every* pruning stage, and that of the last epoch.

    The best epoch of a whole run is usually a dense one, so that a plain "best" would throw the pruned networks away.
    Files are named ``stage1-epoch07-dice0.8712.ckpt`` and ``last.ckpt``; once there has been a cut, ``pick.ckpt`` is
    that of :func:`pick`. Every file is written beside its place and renamed, and holds no path of this machine. The
    inherited ``best_model_path`` is the best of the current stage, so that ``trainer.test(ckpt_path="best")`` after a
    fit tests the final, smallest network.

    Args:
        dirpath: where to save; None means ``checkpoints`` in the run's folder (``trainer.default_root_dir``).
    """

    def __init__(self, dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="stage{stage:d}-epoch{epoch:02d}-dice{val/dice:.4f}",
            monitor="val/dice",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
            # A run's folder is its own: `last.ckpt` keeps its name when the run is resumed in place.
            enable_version_counter=False,
        )
        self._stage = 0
        self._finished: dict[int, str] = {}
        self._finished_scores: dict[int, float] = {}
        self._picked = ""
        self._resumed_from: Path | None = None

    @property
    def best_per_stage(self) -> dict[int, str]:
        """Path of the best checkpoint by stage, the current stage included once it has been validated."""
        current = {self._stage: self.best_model_path} if self.best_model_path else {}
        return self._finished | current

    @property
    def best_scores(self) -> dict[int, float]:
        """Validation Dice of each entry of :attr:`best_per_stage`."""
        score = self.best_model_score
        return self._finished_scores | ({} if score is None else {self._stage: float(score)})

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Names the folder, since the logger's own would be another one, and takes over how files are written."""
        if self.dirpath is None:
            self.dirpath = str(run_folder(trainer) / "checkpoints")
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointIO()
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero:
            # What a killed process was writing.
            for left in Path(str(self.dirpath)).glob(".*.ckpt"):
                left.unlink(missing_ok=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new competition where the pruning callback has just cut (it comes before this one)."""
        self._enter(current_stage(trainer))

    def _enter(self, stage: int) -> None:
        if stage == self._stage:
            return
        self._finished, self._finished_scores = self.best_per_stage, self.best_scores
        self._stage = stage
        self._reset()

    def _reset(self) -> None:
        """Forgets the competition of a stage, but none of its files."""
        self.best_k_models = {}
        self.kth_best_model_path = self.best_model_path = ""
        self.kth_value = torch.tensor(-torch.inf)
        self.best_model_score = self.current_score = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves; a schedule of steps may have cut within the epoch."""
        self._enter(current_stage(trainer))
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, and also writes ``last.ckpt`` when the epoch was no new best, which Lightning leaves out."""
        super().on_train_epoch_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self._keep_pick(trainer)

    def _keep_pick(self, trainer: Trainer) -> None:
        """A second name for the picked stage's file: it costs no space."""
        history = stage_history(trainer)
        best = self.best_per_stage.get(pick(history) or 0, "")
        if len(history) < 2 or not trainer.is_global_zero or best == self._picked or not Path(best).is_file():
            return
        with write_beside(Path(str(self.dirpath)) / PICK) as beside:
            try:
                os.link(best, beside)
            except OSError:  # a file system without links
                shutil.copyfile(best, beside)
        self._picked = best

    def format_checkpoint_name(
        self,
        metrics: dict[str, Tensor],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """The path for a checkpoint of the current stage; see :class:`ModelCheckpoint` for the arguments."""
        return super().format_checkpoint_name({**metrics, "stage": torch.tensor(self._stage)}, filename, ver, prefix)

    def state_dict(self) -> dict[str, Any]:
        """The state of the current stage's competition and the results of the earlier ones, by the files' names.

        Whole paths would tell strangers of the machine, and be wrong where the folder has been moved.
        """
        own = {
            "stage": self._stage,
            "finished": {stage: Path(path).name for stage, path in self._finished.items()},
            "finished_scores": self._finished_scores,
            "best_k_models": {Path(path).name: score for path, score in self.best_k_models.items()},
            **{key: Path(getattr(self, key)).name for key in _PATHS},
            "dirpath": None,
        }
        return {**super().state_dict(), **own}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes where the run that goes on has its files; comes before :meth:`load_state_dict`."""
        self._resumed_from = Path(str(trainer.ckpt_path)).absolute().parent

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the competition, also in another folder: an old best stays the best where its file still is.

        Lightning drops the scores when the folder has changed, so that the first epoch after a resume would always win.

        Raises:
            ConfigError: the state is damaged.
        """
        try:
            self._take_up(state_dict)
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            msg = (
                f"the checkpoint's record of the best checkpoints is damaged ({type(error).__name__}: {error}); "
                f"{ANOTHER_CHECKPOINT}"
            )
            raise ConfigError(msg) from error

    def _take_up(self, state_dict: dict[str, Any]) -> None:
        self._stage = int(state_dict.get("stage", 0))
        self._finished = {int(stage): self._there(name) for stage, name in state_dict.get("finished", {}).items()}
        self._finished_scores = {int(k): float(score) for k, score in state_dict.get("finished_scores", {}).items()}
        self._reset()
        best = self._there(state_dict["best_model_path"])
        if best and Path(best).is_file():
            score = torch.tensor(float(state_dict["best_model_score"]))
            self.best_model_path = self.kth_best_model_path = best
            self.best_model_score = self.kth_value = score
            self.best_k_models = {best: score}
        last = self._there(state_dict["last_model_path"])
        self.last_model_path = last if Path(last).parent == Path(str(self.dirpath)) else ""

    def _there(self, name: str) -> str:
        """The path of a file of the run that goes on; checkpoints up to 0.1 hold whole paths."""
        folder = self._resumed_from or Path(str(self.dirpath))
        return str(folder / Path(name).name) if name else ""
