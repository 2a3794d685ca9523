"""What is seen of a network before a cut: importances that ride along, and the inputs and modes of the last steps."""

from collections import deque
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from polyp_lightning.callbacks.passes import (
    beside_training,
    gather,
    loss_scale,
    replayed,
    run_eagerly,
    steps,
)
from polyp_lightning.callbacks.replay import CallRecorder, modes_of
from polyp_lightning.pruning import ChannelGraph, Example
from polyp_lightning.pruning.criteria import Criterion


class Observation:
    """Watches training steps for the next cut.

    Args:
        criterion: what gathers importances.
        scoring_batches: training batches for a criterion that runs passes of its own.
        recalibration_batches: the last inputs to keep for batch norm.

    Attributes:
        count: how many steps before a cut their inputs are kept.
        modes: by module of the network, whether it trained in the last of them.
    """

    def __init__(self, criterion: Criterion, scoring_batches: int, recalibration_batches: int) -> None:
        self.count = max(recalibration_batches, scoring_batches if criterion.has_passes else 0)
        self.modes: dict[str, bool] = {}
        self._criterion = criterion
        self._recalibration_batches = recalibration_batches
        self._calls = CallRecorder(self.count)
        self._batches: deque[tuple[Any, int]] = deque(maxlen=scoring_batches)
        self._running: ExitStack | None = None

    @property
    def is_on(self) -> bool:
        """Whether steps are watched now."""
        return self._running is not None

    def start(self, net: nn.Module, graph: ChannelGraph) -> None:
        """Watches a network from now on, and forgets what was seen before."""
        self.stop()
        self._running = run_eagerly()
        if self._criterion.rides_along:
            self._criterion.attach(net, graph)
        self._calls.attach(net)
        self._batches.clear()

    def stop(self) -> None:
        """Takes all hooks away; what was seen stays."""
        self._criterion.detach()
        self._calls.detach()
        if self._running is not None:
            self._running.close()
            self._running = None

    def forget(self) -> None:
        """Lets go of the inputs, which were those of the network before a cut."""
        self._calls.calls.clear()
        self._batches.clear()

    def begin_step(self, trainer: Trainer, batch: Any, number: int, *, near: bool) -> None:
        """Prepares for a step; keeps its inputs if it is ``near`` the cut."""
        if not self.is_on:
            return
        # Only here: a GPU is waited for.
        self._criterion.loss_scale = loss_scale(trainer)
        if near:
            self._calls.active = True
            if self._criterion.needs_loss:
                self._batches.append((batch, number))

    def end_step(self, trainer: Trainer, net: nn.Module, begun: int) -> None:
        """Takes back what was scored for a step that a gradient scaler skipped: nothing was learnt from its images.

        Gradients have been averaged over all processes by then, so that all of them skip the same steps. ``begun`` is
        the Trainer's ``global_step`` before the batch.
        """
        was_recorded, self._calls.active = self._calls.active, False
        if trainer.global_step > begun:
            # It lowers its factor after a step that it skipped, and after no other.
            skipped = loss_scale(trainer) < self._criterion.loss_scale
            self._criterion.take_back() if skipped else self._criterion.keep()
        if was_recorded:
            self.modes = modes_of(net)

    def last_calls(self) -> list[Example]:
        """Returns the network's last inputs for new statistics of batch norm, as many as were asked for."""
        return list(self._calls.calls)[-self._recalibration_batches :] if self._recalibration_batches else []

    def run_passes(self, trainer: Trainer, module: LightningModule, net: nn.Module, graph: ChannelGraph) -> None:
        """Lets a criterion that has passes of its own run them on what was kept."""
        if not self._criterion.has_passes:
            return
        with beside_training(trainer):
            if self._criterion.needs_loss:
                batches = steps(trainer, module, self._batches)
            else:
                batches = replayed(list(self._calls.calls)[-(self._batches.maxlen or 0) :], net)
            gather(self._criterion, net, graph, batches)
