"""What a W&B run holds beyond the logged metrics: stages, layer widths, the chart, overlays, config."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from polyp_lightning.checkpoints.run_folder import read_config
from polyp_lightning.checkpoints.stages import StageRecord, dice_series
from polyp_lightning.common.timing import measure_undisturbed
from polyp_lightning.pruning.budget import TorchTimer
from polyp_lightning.tracking.artefacts import log_model
from polyp_lightning.tracking.logger import RunLogger
from polyp_lightning.tracking.overlays import Overlay, predict_overlays, to_wandb_images
from polyp_lightning.training.trainer_facts import data_facts, image_size, pruning_callback, run_folder, stage_history

OVERLAYS = 4
"""Validation images shown per stage; a few are enough to see what a cut did, and cost one small forward an epoch."""


def width_metrics(record: StageRecord) -> dict[str, int]:
    """Returns the filters kept per block, as ``widths/<block>``."""
    return {f"widths/{block}": kept for block, kept in record.widths.items()}


def layer_rows(record: StageRecord, dense: StageRecord) -> list[list[Any]]:
    """Returns rows of (stage, layer, filters, dense filters, kept share in [0, 1]), one per convolution."""
    return [
        [record.stage, name, record.layers.get(name, 0), full, record.layers.get(name, 0) / full]
        for name, full in dense.layers.items()
    ]


def pareto_metrics(record: StageRecord) -> dict[str, float]:
    """Returns a finished stage as a point of the curve; empty for a stage that was never validated."""
    if record.score_best is None or record.score_end is None:
        return {}
    point = {
        "pareto/val_dice": record.score_best,
        "pareto/val_dice_end": record.score_end,
        "pareto/stage": record.stage,
        "complexity/gmacs": record.gmacs,
    }
    return point if record.score_after is None else point | {"pareto/val_dice_after_cut": record.score_after}


def summary_values(history: Sequence[StageRecord]) -> dict[str, float]:
    """Returns the numbers by which runs are compared: each stage's best Dice, and the final network's size and Dice."""
    if not history:
        return {}
    last = history[-1]
    values = {f"best_dice/stage{row.stage}": row.score_best for row in history}
    values |= {"final/val_dice": last.score_end, "final/val_dice_best": last.score_best}
    values |= {"final/gmacs": last.gmacs, "final/share": last.share, "final/params": last.params}
    return {name: value for name, value in values.items() if value is not None}


def measure_speed(module: LightningModule, side: int) -> dict[str, float | str]:
    """Measures the final network's milliseconds for one image, in PyTorch on one thread of this processor.

    Measured on a copy, in half a second. Where other work took the processor meanwhile, there are no milliseconds, and
    the conditions say so. Empty where the network or its input size is not known.
    """
    net = getattr(module, "net", None)
    if not isinstance(net, nn.Module) or not side:
        return {}
    timer, alone = TorchTimer(), copy.deepcopy(net).cpu().float().eval()
    milliseconds = measure_undisturbed(lambda: timer(alone, (1, 3, side, side)))
    if math.isnan(milliseconds):
        return {"final/ms_conditions": "not measured: other work took the processor"}
    return {"final/ms": milliseconds, "final/ms_conditions": ", ".join(f"{k} {v}" for k, v in timer.conditions.items())}


def build_chart(history: Sequence[StageRecord]) -> Any:
    """Builds the Dice-against-GMACs chart (``wandb.plot.line_series``): best, end of stage and right after the cut."""
    import wandb

    series = dice_series(history)
    return wandb.plot.line_series(
        xs=[[x for x, _ in points] for points in series.values()],
        ys=[[y for _, y in points] for points in series.values()],
        keys=list(series),
        title="Validation Dice against GMACs",
        xname="GMACs",
    )


class RunTracker(Callback):
    """Writes into the W&B run what a person wants to see of a pruning run; idle with any other logger, or with none.

    It belongs after the pruning callback in ``trainer.callbacks``, whose ``history`` it watches. A stage is over when
    the next one has begun, or when training ends. A fit that goes on in another folder logs the earlier stages again,
    since its run holds nothing of them. Checkpoints hold the run's id, with which a fit goes on in its own run.
    """

    def __init__(self) -> None:
        self._begun = 0
        self._ended = 0
        self._overlays: list[Overlay] = []
        self._run: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The W&B run's id, and when it was begun; empty without one."""
        return dict(self._run)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the resolved config and the facts of the data."""
        self._begun = self._ended = 0
        self._overlays = []
        if logger := _wandb_logger(trainer):
            if isinstance(logger, RunLogger) and logger.version:
                self._run = {"run_id": logger.version, "begun": logger.begun}
                if logger.goes_on:
                    self._begun = len(stage_history(trainer))
                    self._ended = max(self._begun - 1, 0)
            saved = read_config(run_folder(trainer))
            config = {
                "run_config": saved,
                "data_facts": data_facts(trainer),
                # By itself, since runs are coloured and grouped by it.
                "method": getattr(pruning_callback(trainer), "method", None),
                "seed": str(saved.get("seed_everything", "")),
            }
            known = {k: v for k, v in config.items() if v}
            _attempt(logger, lambda run: run.config.update(known, allow_val_change=True))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the end of the last stage and the widths of a new one, where the pruning callback has just cut."""
        if logger := _wandb_logger(trainer):
            history = stage_history(trainer)
            self._log_ends(logger, trainer, history[:-1])
            self._log_widths(logger, trainer, history)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the first images with their predictions now: when a stage is logged, its network is already cut."""
        first = batch_idx == 0 and dataloader_idx == 0 and not trainer.sanity_checking and trainer.state.fn == "fit"
        if first and _wandb_logger(trainer) and isinstance(batch, dict) and "mask" in batch:
            self._overlays = predict_overlays(trainer, pl_module, batch, OVERLAYS)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the last stage, the chart and the summary."""
        logger = _wandb_logger(trainer)
        if not logger:
            return
        history = stage_history(trainer)
        self._log_ends(logger, trainer, history)
        if not history:
            self._log_overlays(logger, trainer, stage=0)
        if any(row.score_best is not None for row in history):
            _log(logger, trainer, {"dice_against_gmacs": build_chart(history)})
        values = summary_values(history) | (measure_speed(pl_module, image_size(trainer)) if history else {})
        _attempt(logger, lambda run: run.summary.update(values))
        if getattr(logger, "upload_models", False):
            _attempt(logger, lambda run: log_model(run, trainer))

    def _log_widths(self, logger: WandbLogger, trainer: Trainer, history: list[StageRecord]) -> None:
        import wandb

        for record in history[self._begun :]:
            columns: list[str | int] = ["stage", "layer", "filters", "dense", "kept"]
            table = wandb.Table(columns=columns, data=layer_rows(record, history[0]))
            _log(logger, trainer, {**width_metrics(record), "layer_widths": table, "stage": record.stage})
        self._begun = len(history)

    def _log_ends(self, logger: WandbLogger, trainer: Trainer, ended: list[StageRecord]) -> None:
        for record in ended[self._ended :]:
            if point := pareto_metrics(record):
                _log(logger, trainer, point)
        if len(ended) > self._ended:
            self._log_overlays(logger, trainer, ended[-1].stage)
        self._ended = max(self._ended, len(ended))

    def _log_overlays(self, logger: WandbLogger, trainer: Trainer, stage: int) -> None:
        if self._overlays:
            _log(logger, trainer, {"overlays": to_wandb_images(self._overlays, stage)})
        self._overlays = []


def _wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """Returns the W&B logger, on rank zero only."""
    found = (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))
    return next(found, None) if trainer.is_global_zero else None


def _attempt(logger: WandbLogger, call: Callable[[Any], object]) -> None:
    """Makes a call on the run; our own logger survives a failing service."""
    if isinstance(logger, RunLogger):
        logger.attempt(call)
    else:
        call(logger.experiment)


def _log(logger: WandbLogger, trainer: Trainer, values: dict[str, Any]) -> None:
    # The step becomes the value `trainer/global_step`; W&B's own step would clash with Lightning's rows.
    logger.log_metrics(values, step=trainer.global_step)
