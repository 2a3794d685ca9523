"""Passes of a criterion's own, beside the training: they leave modes, random numbers, metrics and statistics as is."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torchmetrics import Metric

from polyp_lightning.callbacks.replay import modes_of, modes_set, on_device
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.options import option
from polyp_lightning.pruning import ChannelGraph, Example
from polyp_lightning.pruning.criteria import Batches, Criterion


def loss_scale(trainer: Trainer) -> float:
    """What the loss is multiplied with before it is propagated: the factor of a gradient scaler, else 1."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


@contextmanager
def beside_training(trainer: Trainer) -> Iterator[None]:
    """For passes in the run's precision, uncompiled, that leave the random numbers alone."""
    with isolate_rng(), trainer.precision_plugin.forward_context(), torch.compiler.set_stance("force_eager"):
        yield


def run_eagerly() -> ExitStack:
    """Runs uncompiled what was compiled, where its hooks are seen, until the stack is closed."""
    stack = ExitStack()
    stack.enter_context(torch.compiler.set_stance("force_eager"))
    return stack


def gather(criterion: Criterion, net: nn.Module, graph: ChannelGraph, batches: Batches) -> None:
    """Lets a criterion run its passes, in evaluation mode."""
    with modes_set(net, dict.fromkeys(modes_of(net), False)):
        criterion.gather(net, graph, batches, lambda losses, _: losses.sum())


def replayed(calls: Iterable[Example], net: nn.Module) -> Batches:
    """Recorded calls of a network as batches without masks, for criteria that need no loss."""
    device = next(net.parameters()).device
    return [(on_device(call, device).call, torch.zeros(call.batch)) for call in calls]


def steps(trainer: Trainer, module: LightningModule, batches: Iterable[tuple[Any, int]]) -> Batches:
    """Training steps as batches, for criteria that need a loss: the output is the step's loss, (1,).

    Args:
        trainer: the one that trains.
        module: the LightningModule.
        batches: training batches as the step takes them, with their numbers.
    """

    def step(batch: Any, number: int, net: nn.Module) -> Tensor:
        return step_loss(trainer, module, batch, number)

    return [(partial(step, batch, number), torch.zeros(1)) for batch, number in batches]


def check_steps(criterion: Criterion, module: LightningModule) -> None:
    """Refuses a criterion that needs the loss of a step which optimizes by itself.

    Raises:
        ConfigError: the module's optimization is manual.
    """
    if criterion.needs_loss and not module.automatic_optimization:
        msg = (
            f"criterion {criterion.name!r} runs training steps of its own for their loss, but those of "
            f"{type(module).__name__} optimize by themselves (automatic_optimization=False); set "
            f"{option('pruning.criterion', 'taylor')}, which watches the steps"
        )
        raise ConfigError(msg)


def step_loss(trainer: Trainer, module: LightningModule, batch: Any, number: int) -> Tensor:
    """The loss of a training step, (1,), in evaluation mode; nothing is logged or counted.

    Raises:
        ConfigError: the step returns no loss.
    """
    numbered = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)
    with modes_set(module, dict.fromkeys(modes_of(module), False)), _unlogged(module):
        found: Any = module.training_step(batch, number) if numbered else module.training_step(batch)
    loss = found.get("loss") if isinstance(found, dict) else found
    if not isinstance(loss, Tensor):
        msg = f"training_step of {type(module).__name__} returned {type(loss).__name__}, and a loss is needed"
        raise ConfigError(msg)
    return loss.detach().reshape(1)


@contextmanager
def _unlogged(module: LightningModule) -> Iterator[None]:
    """Logs nothing; metrics are afterwards as they were."""
    metrics: Sequence[Any] = [part for part in module.modules() if isinstance(part, Metric)]
    states = [(part, part._copy_state_dict(), part._update_count, part._computed) for part in metrics]
    names = [name for name in ("log", "log_dict") if name not in vars(module)]
    try:
        for name in names:
            setattr(module, name, lambda *_, **__: None)
        yield
    finally:
        for name in names:
            delattr(module, name)
        for part, state, count, computed in states:
            for name, value in state.items():
                setattr(part, name, value)
            part._update_count, part._computed = count, computed
