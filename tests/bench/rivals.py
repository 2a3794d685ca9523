"""Other pruning software as a callback: cuts the network of a ``fit`` in its first epochs, by its own recipe.

For the study's criteria with ``outside`` (configs/study-curve.yaml). The network that the other software leaves
is described and rebuilt like every pruned network of ours, so that training, tests and timing are the same code.
"""

import copy
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from polyp_lightning.pruning import describe, rebuild

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]

_BATCHES = 16
_HALVINGS = 9
# What is ranked together: all groups, those of equal structure (arXiv:2407.04616), or each by itself (the default).
_RANKINGS: dict[str, dict[str, bool]] = {
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
    "local": {"global_pruning": False},
}


class TorchPruningCut(Callback):
    """Cuts at the start of each of the first ``cuts`` epochs, to equal falls of the MACs (Torch-Pruning 1.6.1).

    ``importance`` is taylor, hessian or magnitude, with Torch-Pruning's classes for groups and their defaults;
    ``ranking`` is global, isomorphic or local.
    """

    def __init__(self, importance: str, target: float, cuts: int = 1, ranking: str = "global") -> None:
        self.importance, self.target, self.cuts, self.ranking = importance, target, cuts, ranking
        self._dense = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch >= self.cuts:
            return
        module: Any = pl_module
        size = module.image_size
        self._dense = self._dense or count_macs(module.net, size)
        left = 1 - (1 - self.target) * (trainer.current_epoch + 1) / self.cuts
        batches = [
            (module.network_input(batch["image"]).detach(), batch["mask"])
            for batch in islice(iter(trainer.train_dataloader), _BATCHES)  # type: ignore[arg-type]
        ]
        macs = left * self._dense
        cut = cut_by_torch_pruning(module.net, self.importance, self.ranking, macs, size, batches, module.loss)
        bring_back(module.net, cut)
        for optimizer in trainer.optimizers:
            # Its README makes a new optimizer after each cut.
            optimizer.state.clear()


def count_macs(net: nn.Module, size: int) -> float:
    import torch_pruning as tp

    return float(tp.utils.count_ops_and_params(copy.deepcopy(net).eval(), torch.zeros(1, 3, size, size))[0])


def cut_by_torch_pruning(
    net: nn.Module, importance: str, ranking: str, macs: float, size: int, batches: Batches, loss: Loss
) -> nn.Module:
    """A copy of the network, cut in one step to at most so many MACs.

    Torch-Pruning takes a share of channels: the smallest one that suffices is found by halving.
    """
    import torch_pruning as tp

    kinds = {
        "taylor": tp.importance.GroupTaylorImportance,
        "hessian": tp.importance.GroupHessianImportance,
        "magnitude": tp.importance.GroupMagnitudeImportance,
    }
    scored = copy.deepcopy(net).eval(), kinds[importance]()
    if importance != "magnitude":
        gather_gradients(*scored, importance, batches, loss)
    low, high, best = 0.0, 1.0, None
    for _ in range(_HALVINGS):
        ratio = (low + high) / 2
        # Together: the scorer keeps what it has gathered by parameter.
        twin, scorer = copy.deepcopy(scored)
        for own, parameter in zip(scored[0].parameters(), twin.parameters(), strict=True):
            parameter.grad = None if own.grad is None else own.grad.clone()
        head = [module for module in twin.get_submodule("segmentation_head").modules() if isinstance(module, nn.Conv2d)]
        example, options = torch.zeros(1, 3, size, size), {**_RANKINGS[ranking], "pruning_ratio": ratio}
        tp.pruner.BasePruner(twin, example, importance=scorer, ignored_layers=head, **options).step()
        if count_macs(twin, size) > macs:
            low = ratio
        else:
            high, best = ratio, twin
    if best is None:
        raise RuntimeError(f"Torch-Pruning ({importance}) can't cut to {macs:.3g} MACs")
    return best


def gather_gradients(net: nn.Module, scorer: Any, importance: str, batches: Batches, loss: Loss) -> None:
    """As its benchmark: the loss of all batches for taylor; of each image by itself for hessian."""
    net.zero_grad()
    if importance == "taylor":
        for images, masks in batches:
            loss(net(images), masks).backward()
        return
    scorer.zero_grad()
    for images, masks in batches:
        for image, mask in zip(images.split(1), masks.split(1), strict=True):
            net.zero_grad()
            loss(net(image), mask).backward()
            scorer.accumulate_grad(net)


def bring_back(net: nn.Module, cut: nn.Module) -> None:
    """Gives the network the shapes and weights of its cut copy; its parameters stay the optimizer's."""
    rebuild(net, describe(cut))
    net.load_state_dict(cut.state_dict())
    for parameter in net.parameters():
        parameter.grad = None
