"""Training, evaluation and prediction of one segmentation network, as a LightningModule."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from polyp_lightning.checkpoints.record import (
    KEY,
    make_record,
    parse_record,
    read_record,
    restore_net,
    restore_widths,
)
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.frame_rule import ALARM_THRESHOLD
from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.metrics import PerImageDice, PerImageIoU, alarm_metrics, binarise, evaluation_metrics, frame_scores
from polyp_lightning.networks.build import ArchOptions, build_net, normalisation, normalise, per_channel
from polyp_lightning.networks.losses import build_loss
from polyp_lightning.networks.names import check_named, is_own
from polyp_lightning.networks.own import Maps, OwnNet, resize_logits
from polyp_lightning.pruning import rebuild
from polyp_lightning.training.checks import (
    LossCheck,
    check_options,
    check_same_net,
    check_weights,
    explain_shapes,
)
from polyp_lightning.training.distillation import Teacher
from polyp_lightning.training.gradient_scaler import prepare_for_scaler
from polyp_lightning.training.optimizer import build_one_cycle, build_optimizer, build_schedule
from polyp_lightning.training.resume import Progress, drop_progress, explain_damage
from polyp_lightning.training.trainer_facts import cuts_to_come, folders_of_sets
from polyp_lightning.training.validation_dice import validation_dice

Batch = dict[str, Any]
STORED = (
    *("arch", "encoder", "encoder_weights", "arch_options", "prediction", "map_weights", "mean", "std"),
    *("loss", "lr", "image_size"),
)
"""The arguments that a checkpoint holds."""


class PolypSegmenter(LightningModule):
    """A segmentation network with its loss, metrics and optimizer; takes the batches of ``PolypDataModule``.

    Logged at network resolution: ``train/loss``, ``val/loss``, ``val/dice``, ``val/iou``; of a test, ``test/…``, at the
    original resolution, see :func:`~polyp_lightning.metrics.evaluation_metrics`, and of its alarms at network
    resolution, see :func:`~polyp_lightning.metrics.alarm_metrics`; ``test/<name>/…`` where there are several test sets.
    A checkpoint holds the network's shapes, so that a pruned one loads like any other.

    Args:
        arch: an architecture of smp, such as Unet or FPN, or your own network, package.module.Class. The latter (or a
            function that makes one) takes normalised images and returns logits of one channel, or a list, tuple or
            dict of them: then it is trained by the sum of their losses.
        encoder: an encoder of segmentation_models_pytorch, such as resnet18 or timm-tf_efficientnet_lite0; a network of
            your own has none.
        encoder_weights: imagenet (downloaded), the path of a file with the encoder's state dict, or null (random).
        init_from: a checkpoint to start from: its weights and widths, pruned or not, and nothing else of it.
        architecture_from: a checkpoint whose widths to take, with random weights: a pruned architecture from scratch.
        resume_optimizer: when a run is resumed, take up its optimizer's state and learning-rate schedule; otherwise
            both start afresh, the schedule over the steps that are left.
        loss: by its name in :data:`~polyp_lightning.networks.losses.LOSSES`.
        lr: the learning rate; without a scheduler of your own, the peak of the one-cycle schedule.
        optimizer: makes the optimizer from the parameters; its learning rate is then set to ``lr``, except in groups
            of parameters that have one of their own.
        lr_scheduler: makes a scheduler, stepped once an epoch, from the optimizer; null for one cycle over all steps.
        image_size: side of the square images in pixels, a multiple of 32; the same as the data's.
        compile_net: backend of ``torch.compile`` for the fit, such as inductor; null runs the network as it is. The
            epochs that are scored run uncompiled, see :mod:`polyp_lightning.pruning.compiled`.
        distill_from: a checkpoint of a teacher, as a rule the dense network; it takes part in the tail, the epochs
            after the last cut: before it, filters are scored by the task's gradient alone, and there is less to win
            back. A run without cuts is all tail.
        distill_weight: w in the loss of the tail, (1 - w)·loss + w·divergence from the teacher.
        distill_mirrored: the teacher answers with the mean over the image and its mirror image, which is right more
            often and takes twice its time.
        arch_options: widths and depth of the architecture by smp's names, such as
            ``{decoder_pyramid_channels: 64, decoder_segmentation_channels: 32}`` for FPN; null for smp's defaults. Of
            a network of your own its arguments, plain values.
        prediction: where your network returns several maps, the key or place (from 0) of the one that is the
            prediction; null for the largest, of equally large ones the last of a list and the first of a dict.
        map_weights: of the losses of its maps, in their order; null for 1 each.
        mean: per RGB channel what the input is normalised with, for values in [0, 1]; null for the encoder's,
            ImageNet's without one.
        std: likewise.

    Attributes:
        net: the network: normalised float images (N, 3, S, S) to logits (N, 1, S, S); in training one of the user's own
            returns its maps by name. A cut changes it in place.
        alarm_threshold: the frame's score above which it gives an alarm; the checkpoint's, where it holds one.

    Raises:
        ConfigError: an option has a value that can't work.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str = "Unet",
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        loss: str = "dice_bce",
        lr: float = 1e-3,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        image_size: int = 96,
        init_from: str | None = None,
        resume_optimizer: bool = True,
        compile_net: str | None = None,
        architecture_from: str | None = None,
        distill_from: str | None = None,
        distill_weight: float = 0.5,
        distill_mirrored: bool = False,
        arch_options: ArchOptions | None = None,
        prediction: str | int | None = None,
        map_weights: list[float] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        # Callables don't load with weights_only=True, and where a run started from matters to that run alone.
        self.save_hyperparameters(*STORED)
        if is_own(arch):
            self.hparams["encoder"] = encoder = ""
        self.init_from, self.architecture_from = init_from, architecture_from
        check_options(lr, image_size, {**self._origins(), "encoder_weights": encoder_weights})
        self.resume_optimizer, self.compile_net = resume_optimizer, compile_net
        self._progress: Progress | None = None
        self._was_loaded = False
        self._loss_check: LossCheck | None = None
        self.arch, self.encoder, self.lr, self.image_size = arch, encoder, lr, image_size
        self.arch_options, self.prediction = arch_options, prediction
        self.loss = build_loss(loss, check_weights(arch, map_weights))
        self.make_optimizer, self.make_lr_scheduler = optimizer, lr_scheduler
        self.net = self._start_net(encoder_weights).to(memory_format=torch.channels_last)
        self.teacher: Teacher | None = None
        if distill_from is not None:
            self.teacher = Teacher(distill_from, distill_weight, image_size, [arch], mirrored=distill_mirrored)
        for name, values in zip(("mean", "std"), normalisation(encoder, mean, std), strict=True):
            self.register_buffer(name, per_channel(values), persistent=False)
        self.val_dice, self.val_iou = PerImageDice(), PerImageIoU()
        self.test_scores, self.test_alarms, self.test_names = nn.ModuleList(), nn.ModuleList(), [""]
        self.alarm_threshold = ALARM_THRESHOLD
        # What the pruning callback traces the network with, before anything is trained.
        self.example_input_array = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Any:
        """See ``LightningModule.load_from_checkpoint``; a network of the user's own needs ``arch=`` repeated.

        The module is in evaluation mode until it is fitted.

        Raises:
            UnnamedClassError: it is not; nothing was imported.
        """
        check_named(read_record(Path(checkpoint_path)).arch, [options.get("arch", "")])
        module = super().load_from_checkpoint(checkpoint_path, *args, **options).eval()
        module._was_loaded = True
        return module

    def _start_net(self, encoder_weights: str | None) -> nn.Module:
        """Makes the network with its first weights: random, the encoder's, a checkpoint's, or of its widths only."""
        for flag, path in self._origins().items():
            if path is not None:
                record = read_record(Path(path).expanduser(), f"--model.{flag}")
                check_same_net(record, self.arch, self.encoder, self.arch_options)
                restore = restore_net if flag == "init_from" else restore_widths
                return self._with_prediction(restore(record, [self.arch]))
        return build_net(self.arch, self.encoder, encoder_weights, self.arch_options, self.prediction)

    def _with_prediction(self, net: nn.Module) -> nn.Module:
        """Lets this module's option win over that of the checkpoint which the network is from."""
        if isinstance(net, OwnNet):
            net.prediction = None if self.prediction is None else str(self.prediction)
        return net

    def _origins(self) -> dict[str, str | None]:
        """The checkpoints that a new run may begin from, by option."""
        return {"init_from": self.init_from, "architecture_from": self.architecture_from}

    def forward(self, image: Tensor) -> Any:
        """Returns logits (N, 1, H, W) of RGB images (N, 3, H, W) with values in 0 … 255, uint8 or float.

        In training a network of the user's own returns all its maps by name, for the loss.

        Raises:
            ConfigError: the images are not of this shape, or of sizes that the network does not take.
        """
        with explain_shapes(self.arch, image):
            return self.net(self.network_input(image))

    def network_input(self, image: Tensor) -> Tensor:
        """Normalises RGB images (N, 3, H, W) with values in 0 … 255: what :attr:`net` takes."""
        return normalise(image, self.mean, self.std)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Makes the optimizer and its schedule."""
        optimizer = build_optimizer(self.make_optimizer, [p for p in self.parameters() if p.requires_grad], self.lr)
        prepare_for_scaler(self.trainer, optimizer)
        if self.make_lr_scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.make_lr_scheduler, optimizer)}
        return {"optimizer": optimizer, "lr_scheduler": build_one_cycle(optimizer, self._steps_to_go())}

    def _steps_to_go(self) -> float:
        """The steps that the schedule covers: of the whole run, or those left where it starts afresh."""
        return self.trainer.estimated_stepping_batches - (self._progress.skipped_steps if self._progress else 0)

    def on_fit_start(self) -> None:
        """Checks a resumed run's states, moves the teacher, and compiles the network that a checkpoint has replaced."""
        if self._progress is not None:
            self._progress.check_states(self.trainer)
        if self._was_loaded:
            # Lightning would train in the mode that it finds.
            self.train()
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.compile_net is not None:
            self.net.compile(backend=self.compile_net)

    def on_train_start(self) -> None:
        """Restores the random numbers of a resumed run."""
        if self._progress is not None:
            self._progress.begin(self.trainer, self._steps_to_go())

    def on_train_epoch_start(self) -> None:
        """Begins a resumed run's first epoch of data again.

        Worker processes began it before Lightning told the sampler which epoch it is, and a cut has read from it.
        """
        loop = self.trainer.fit_loop
        if loop.is_resuming and loop._data_fetcher is not None:
            iter(loop._data_fetcher)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of one batch, logged as ``train/loss`` (epoch's mean) and ``train/loss_step``."""
        output = self(batch["image"])
        loss = self.loss(output, batch["mask"])
        if self.teacher is not None and not cuts_to_come(self.trainer):
            loss = self.teacher.mix(loss, self._choose_prediction(output), batch["image"])
        self._loss_check = LossCheck(loss, batch)
        size = len(batch["image"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=size)
        self.log("train/loss_step", loss, on_step=True, on_epoch=False, batch_size=size)
        return loss

    def _choose_prediction(self, output: Tensor | Maps) -> Tensor:
        """The logits of the prediction among what the network returns in training."""
        if isinstance(output, Tensor):
            return output
        net: Any = self.net
        return resize_logits(net.predict(output), (self.image_size, self.image_size))

    def on_after_backward(self) -> None:
        """Checks the loss.

        Raises:
            TrainingError: it is not finite; names the batch's images. Nothing has been learnt from them yet.
        """
        check, self._loss_check = self._loss_check, None
        if check is not None:
            check.finish()

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Steps a schedule; one from a damaged checkpoint can fail at any step, which is explained."""
        resumed = self._progress is not None and self._progress.with_optimizer
        with explain_damage() if resumed else nullcontext():
            super().lr_scheduler_step(scheduler, metric)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs loss, Dice and IoU at network resolution."""
        logits = self(batch["image"])
        probability, mask, size = logits.float().sigmoid(), batch["mask"], len(logits)
        self.val_dice.update(probability, mask)
        self.val_iou.update(probability, mask)
        self.log("val/loss", self.loss(logits, mask), sync_dist=True, batch_size=size)
        self.log("val/dice", self.val_dice, prog_bar=True, batch_size=size)
        self.log("val/iou", self.val_iou, batch_size=size)

    def score_after_cut(self, trainer: Trainer) -> float | None:
        """Dice on the validation images, for the pruning callback; ``trainer`` is the one that fits this module."""
        return validation_dice(trainer, self)

    def on_test_epoch_start(self) -> None:
        """Sets up one collection of metrics for each test set.

        Raises:
            ConfigError: there are several processes: the last batches are filled up, and images counted twice.
        """
        if self.trainer.world_size > 1:
            msg = (
                f"test counts each image once and so runs in one process, got {self.trainer.world_size}; set "
                "--trainer.devices 1"
            )
            raise ConfigError(msg)
        self.test_names = folders_of_sets(self.trainer, self.trainer.test_dataloaders)
        self.test_scores = nn.ModuleList(evaluation_metrics() for _ in self.test_names).to(self.device)
        self.test_alarms = nn.ModuleList(alarm_metrics(self.alarm_threshold) for _ in self.test_names).to(self.device)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, list[Any]]:
        """Adds the images of a batch to the metrics of their test set.

        Returns:
            ``name`` of each image, and ``scores``: its metrics by name, its ``frame_score``, and ``polyp`` (1 or 0).
        """
        masks, logits = batch["original_mask"], self(batch["image"]).float()
        sizes = [(mask.shape[0], mask.shape[1]) for mask in masks]
        found = zip(_resize(logits, sizes), masks, strict=True)
        # Called, a collection of metrics accumulates, and returns the values of what it was given alone.
        values = [self._scores(dataloader_idx)([one], [mask]) for one, mask in found]
        probability = logits[:, 0].sigmoid()
        self._alarms(dataloader_idx).update(probability, batch["mask"][:, 0])
        for image, score, mask in zip(values, frame_scores(probability), batch["mask"], strict=True):
            image |= {"frame_score": score, "polyp": mask.any()}
        return {
            "name": batch["name"],
            "scores": [{key: float(value) for key, value in image.items()} for image in values],
        }

    def on_test_epoch_end(self) -> None:
        """Logs ``test/<metric>``, or ``test/<test set>/<metric>`` where there are several."""
        for index, name in enumerate(self.test_names):
            prefix = f"test/{name}" if name else "test"
            found = {**self._scores(index).compute(), **self._alarms(index).compute()}
            self.log_dict({f"{prefix}/{key}": value for key, value in found.items()})

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, list[Any]]:
        """Returns each ``mask`` as of :meth:`predict_masks`, ``frame_score``, ``alarm``, ``name`` and ``path``."""
        logits = self._predict(batch)
        scores = frame_scores(logits[:, 0].sigmoid()).tolist()
        alarms = [score > self.alarm_threshold for score in scores]
        found = {"mask": _to_masks(logits, batch["size"]), "frame_score": scores, "alarm": alarms}
        return {**found, "name": batch["name"], "path": batch["path"]}

    def predict_masks(self, batch: Batch) -> list[Tensor]:
        """Predicts the masks of images at their original sizes; layers are in evaluation mode meanwhile.

        Takes ``image``, RGB (N, 3, S, S) in 0 … 255, and ``size``, the original (height, width) of each. Returns for
        each a uint8 mask (H, W), 255 on polyps and 0 elsewhere, on the module's device.
        """
        return _to_masks(self._predict(batch), batch["size"])

    @torch.no_grad()
    def _predict(self, batch: Batch) -> Tensor:
        with evaluation_mode(self):
            logits: Tensor = self(batch["image"].to(self.device)).float()
        return logits

    def _scores(self, index: int) -> Any:
        return self.test_scores[index]

    def _alarms(self, index: int) -> Any:
        return self.test_alarms[index]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the project's record; loading the checkpoint must not download pretrained weights first."""
        datamodule: Any = getattr(self._trainer, "datamodule", None)
        optimizers = self._trainer.optimizers if self._trainer is not None else []
        parameters = dict(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, self.hparams))
        start = {"encoder_weights": parameters.get("encoder_weights"), **self._origins()}
        checkpoint[KEY] = make_record(self.net, datamodule, start, optimizers)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = {**parameters, "encoder_weights": None}

    def _take_net(self, net: nn.Module, plan: dict[str, Any]) -> None:
        """Takes the place of the network, or gives it the new one's shapes where an optimizer holds its parameters.

        A tuner restores what it tried when the optimizers exist already; Lightning loads the values next.
        """
        if self._is_being_trained():
            rebuild(self.net, plan, net.state_dict())
            return
        like = next(self.net.parameters())
        # Lightning loads the weights before it makes the module double, which would round them.
        double = self._trainer is not None and isinstance(self._trainer.precision_plugin, DoublePrecision)
        dtype = torch.float64 if double else like.dtype
        net = net.to(device=like.device, dtype=dtype).to(memory_format=torch.channels_last)
        self.net = net.train(self.net.training)

    def _is_being_trained(self) -> bool:
        """Whether the optimizers of the current fit were made."""
        optimizers = [] if self._trainer is None else self._trainer.optimizers
        held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        return any(id(p) in held for p in self.net.parameters())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replaces the network by the checkpoint's; a dense one loads into a module that was pruned meanwhile."""
        record = parse_record(checkpoint)
        check_same_net(record, self.arch, self.encoder, self.arch_options)
        self._take_net(self._with_prediction(restore_net(record, [self.arch])), record.plan)
        self.alarm_threshold = record.alarm_threshold
        if self._trainer is None:
            return
        if self._trainer.state.fn == TrainerFn.FITTING:
            self._progress = Progress(checkpoint, record, self._trainer, with_optimizer=self.resume_optimizer)
        else:
            drop_progress(checkpoint, self._trainer)


def _resize(logits: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Returns probabilities (H, W) at the given sizes: the logits (N, 1, S, S) are resized, not the probabilities."""
    resized = (F.interpolate(one, size, mode="bilinear") for one, size in zip(logits.split(1), sizes, strict=True))
    return [one[0, 0].sigmoid() for one in resized]


def _to_masks(logits: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    return [binarise(probability).to(torch.uint8) * 255 for probability in _resize(logits, sizes)]
