"""Checkpoints of a run that prunes: the best of every stage, and the last epoch."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from polyp_lightning.tracking.watch import current_stage, run_folder


class StageCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the highest ``val/dice`` of *every* pruning stage, and that of the last epoch.

    The best epoch of a whole run is usually a dense one, so that a plain "best" would throw the pruned networks away.
    Files are named ``stage1-epoch07-dice0.8712.ckpt`` and ``last.ckpt``. The inherited ``best_model_path`` is the best
    of the current stage, so that ``trainer.test(ckpt_path="best")`` after a fit tests the final, smallest network.

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
        """Names the folder: the logger's own would be another one."""
        if self.dirpath is None:
            self.dirpath = str(run_folder(trainer) / "checkpoints")
        super().setup(trainer, pl_module, stage)

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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, and also writes ``last.ckpt`` when the epoch was no new best, which Lightning leaves out."""
        super().on_train_epoch_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

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
        """The state of the current stage's competition and the results of the earlier ones."""
        own = {"stage": self._stage, "finished": self._finished, "finished_scores": self._finished_scores}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the competition, also in another folder: an old best stays the best where its file still is.

        Lightning drops the scores when the folder has changed, so that the first epoch after a resume would always win.
        """
        self._stage = int(state_dict.get("stage", 0))
        self._finished = dict(state_dict.get("finished", {}))
        self._finished_scores = dict(state_dict.get("finished_scores", {}))
        self._reset()
        path = state_dict["best_model_path"]
        if path and self._fs.exists(path):
            for key in ("best_model_path", "best_model_score", "best_k_models", "kth_best_model_path", "kth_value"):
                setattr(self, key, state_dict[key])
        self.last_model_path = state_dict["last_model_path"] if state_dict["dirpath"] == self.dirpath else ""
