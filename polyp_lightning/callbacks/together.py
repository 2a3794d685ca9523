"""Begins and ends a training in several processes together."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from polyp_lightning.common.errors import ConfigError


class KeepTogether(Callback):
    """Has all processes of a training resume or none, and ends all before the same step when any receives SIGTERM.

    Lightning 2.6 broadcasts inside its signal handler. No other process takes part in that collective, and the training
    hangs. Here the handler only sets a flag. The flags are summed on the CPU while a step runs and looked at before the
    next one: all processes see the same sum, and an accelerator is never waited for.

    Attributes:
        resumes: whether this process has a checkpoint to go on with.
    """

    def __init__(self) -> None:
        self.resumes = False
        self._asked = False
        self._group: Any = None
        self._sum: tuple[Any, Tensor] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compares the starts, and takes the place of Lightning's handler, which is registered after this hook.

        Raises:
            ConfigError: only some of the processes resume.
        """
        self._asked, self._group, self._sum = False, None, None
        if stage != "fit" or trainer.world_size == 1 or not dist.is_initialized():
            return
        self._group = dist.new_group(backend="gloo")
        resuming = torch.tensor([int(self.resumes)])
        dist.all_reduce(resuming, group=self._group)
        if resuming.item() not in (0, trainer.world_size):
            msg = (
                f"{resuming.item()} of {trainer.world_size} processes have found the checkpoint of --ckpt_path; all "
                "machines need the same folder: put --trainer.default_root_dir on a disk that they share"
            )
            raise ConfigError(msg)
        trainer._signal_connector._sigterm_notifier_fn = self._ask  # type: ignore[assignment,method-assign]
        # Its broadcast before each step, which has nothing to tell any more, would wait for the accelerator.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ends the training if a process had been asked to stop before the last step.

        Raises:
            SIGTERMException: in all processes.
        """
        if self._group is None:
            return
        if self._sum is not None:
            work, asked = self._sum
            work.wait()
            if asked.item():
                self._sum = None
                raise SIGTERMException
        asked = torch.tensor([int(self._asked)])
        self._sum = (dist.all_reduce(asked, group=self._group, async_op=True), asked)
