"""Pruning in several processes: one choice for all, and proof that they stay equal.

Every process scores its own frames; sums and counts are added up, rank 0's choice is broadcast, every process makes the
same cut, and the network is wrapped anew: DistributedDataParallel keeps buffers for gradients of the old shapes.
"""

import gc
import hashlib
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from polyp_lightning.callbacks.either_lightning import is_a, is_exactly
from polyp_lightning.common.errors import ConfigError, PruningError
from polyp_lightning.common.options import option
from polyp_lightning.pruning.criteria import Criterion
from polyp_lightning.pruning.graph import Removed


def check_strategy(trainer: Trainer) -> None:
    """Refuse strategies under which weights can't change their shapes.

    Raises:
        ConfigError: naming what works.
    """
    strategy: Any = trainer.strategy
    plain = is_exactly(strategy, DDPStrategy) and strategy._start_method == "popen"
    if plain or is_a(strategy, SingleDeviceStrategy):
        return
    name = type(strategy).__name__.removesuffix("Strategy")
    start = getattr(strategy, "_start_method", None)
    how = f" started by {start}" if start not in (None, "popen") else ""
    msg = (
        f"the strategy {name}{how} can't prune: it spreads weights over processes, or fixes their shapes before a "
        "checkpoint is loaded; set "
        f"{option('trainer.strategy', 'ddp')}, or {option('trainer.devices', 1)}"
    )
    raise ConfigError(msg)


def reduce_scores(trainer: Trainer, criterion: Criterion) -> None:
    """Add up what the processes scored."""
    if trainer.world_size > 1:
        device = trainer.strategy.root_device

        def all_reduce_sum(values: Tensor) -> Tensor:
            summed: Tensor = trainer.strategy.reduce(values.to(device), reduce_op="sum")
            return summed.cpu()

        criterion.reduce(all_reduce_sum)


def summed_scores(trainer: Trainer, criterion: Criterion) -> dict[str, Any]:
    """The state of a criterion that had seen what all processes have; each keeps its own."""
    own = criterion.state_dict()
    reduce_scores(trainer, criterion)
    summed = criterion.state_dict()
    criterion.load_state_dict(own)
    return summed


def agreed(trainer: Trainer, removed: Removed) -> Removed:
    """Rank 0's choice, in every process."""
    return trainer.strategy.broadcast(removed)


def unwrap(trainer: Trainer) -> None:
    """Let go of DistributedDataParallel, whose hooks hold on to the shapes of the parameters; before a cut."""
    if trainer.world_size > 1:
        trainer.strategy.model = trainer.strategy.lightning_module
        gc.collect()


def wrap(trainer: Trainer, net: nn.Module) -> None:
    """Wrap the module again, after a cut, which also gives all processes rank 0's batch-norm statistics.

    Raises:
        PruningError: the processes' weights differ.
    """
    strategy: Any = trainer.strategy
    if trainer.world_size == 1 or not is_a(strategy, DDPStrategy):
        return
    # Before wrapping, which would cover up a difference.
    _assert_equal(trainer, dict(net.named_parameters()))
    strategy.configure_ddp()
    own = _assert_equal(trainer, net.state_dict())
    rank_zero_info(f"The cut network is the same in all {trainer.world_size} processes: SHA-256 {own[:16]}")


def share_buffers(trainer: Trainer, module: nn.Module) -> None:
    """Give all processes rank 0's buffers, as wrapping does for the module that is trained."""
    if trainer.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # A view as bytes knows every dtype, and 0-dimensional tensors too.
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _assert_equal(trainer: Trainer, tensors: dict[str, Tensor]) -> str:
    own = digest(tensors)
    same = own == trainer.strategy.broadcast(own)
    if not trainer.strategy.reduce_boolean_decision(same, all=True):
        msg = (
            f"after the cut the network of process {trainer.global_rank} has the digest {own[:12]}, and not all "
            "processes have the same: seed them alike (--seed_everything), and keep random changes of weights out"
        )
        raise PruningError(msg)
    return own
