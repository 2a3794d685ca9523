"""Other pruning software as callbacks: cuts the network of a ``fit`` in its first epochs, by its own recipe.

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
_HALVINGS = 5
_GRID = 32
# Of fasterai's schedule on a copy: one step would pass layers over, and more than ten make no difference.
_STEPS = 10
# What is ranked together: all groups, those of equal structure (arXiv:2407.04616), or each by itself (the default).
_RANKINGS: dict[str, dict[str, Any]] = {
    "global": {"global_pruning": True, "iterative_steps": 1},
    "isomorphic": {"global_pruning": True, "isomorphic": True, "iterative_steps": 5},
    "local": {"global_pruning": False, "iterative_steps": 5},
}


class CannotCutError(RuntimeError):
    """No share of channels leaves as few MACs."""


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


class FasteraiCut(Callback):
    """Cuts a little before each step of the optimizer (fasterai 0.4.1, in no extra: it brings 40 packages).

    As its PruneCallback does: magnitudes (``large_final``) within each layer, with the share rising by its ``agp``;
    the optimizer's state is cut along. The share that leaves ``target`` of the MACs is found on copies first.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self._pruner: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from fasterai.core.schedule import sched_agp

        module: Any = pl_module
        size, steps = module.image_size, int(trainer.estimated_stepping_batches)

        def cut(ratio: float) -> nn.Module:
            twin = copy.deepcopy(module.net)
            pruner = build_fasterai_pruner(twin, ratio, size, sched_agp, _STEPS)
            for _ in range(_STEPS):
                pruner.prune_model()
            return twin

        ratio, _ = find_share(cut, self.target * count_macs(module.net, size), size)
        self._pruner = build_fasterai_pruner(module.net, ratio, size, sched_agp, steps)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        training = pl_module.training
        moves = prune_and_follow(self._pruner)
        pl_module.train(training)
        repoint(optimizer, moves)


Move = tuple[Tensor, Tensor, list[int], int]
"""A parameter, the one in its place, the indices that are left of it, and the dimension that they are of."""


def build_fasterai_pruner(net: nn.Module, ratio: float, size: int, schedule: Callable[..., float], steps: int) -> Any:
    from fasterai.core.criteria import large_final
    from fasterai.prune.pruner import Pruner

    def ratios(ratio: float, steps: int) -> list[float]:
        return [schedule(0.0, 1.0, step / steps) * ratio for step in range(steps + 1)]

    example = torch.zeros(1, 3, size, size)
    return Pruner(net, ratio, "local", large_final, ratios, find_head(net), example, iterative_steps=steps)


def prune_and_follow(pruner: Any) -> list[Move]:
    """Takes one step of its schedule, and returns what it put in place of what."""
    from torch_pruning.pruner.function import BasePruningFunc

    moves: list[Move] = []
    replace = BasePruningFunc._prune_parameter_and_grad

    def follow(self: Any, weight: Tensor, kept: list[int], dimension: int) -> Any:
        moves.append((weight, replace(self, weight, kept, dimension), kept, dimension))
        return moves[-1][1]

    BasePruningFunc._prune_parameter_and_grad = follow
    try:
        pruner.prune_model()
    finally:
        BasePruningFunc._prune_parameter_and_grad = replace
    return moves


def repoint(optimizer: Any, moves: Iterable[Move]) -> None:
    """Has the optimizer step the new parameters, with what is left of the old ones' moments."""
    for old, new, kept, dimension in moves:
        for group in optimizer.param_groups:
            group["params"] = [new if one is old else one for one in group["params"]]
        state = optimizer.state.pop(old, {})
        index = torch.as_tensor(kept)
        optimizer.state[new] = {
            key: value.index_select(dimension, index)
            if isinstance(value, Tensor) and value.shape == old.shape
            else value
            for key, value in state.items()
        }


def find_head(net: nn.Module) -> list[nn.Module]:
    """The layers that make the output, which are to keep their widths."""
    return [module for module in net.get_submodule("segmentation_head").modules() if isinstance(module, nn.Conv2d)]


def count_macs(net: nn.Module, size: int) -> float:
    import torch_pruning as tp

    return float(tp.utils.count_ops_and_params(copy.deepcopy(net).eval(), torch.zeros(1, 3, size, size))[0])


def cut_by_torch_pruning(
    net: nn.Module, importance: str, ranking: str, macs: float, size: int, batches: Batches, loss: Loss
) -> nn.Module:
    """A copy of the network, cut to at most so many MACs, without training in between.

    Layers whose share can't be had, such as those with 32 groups of group norm, are passed over. In steps there are
    fewer of them, but a global ranking can't then be cut as finely.
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

    def cut(ratio: float) -> nn.Module:
        # Together: the scorer keeps what it has gathered by parameter.
        twin, scorer = copy.deepcopy(scored)
        for own, parameter in zip(scored[0].parameters(), twin.parameters(), strict=True):
            parameter.grad = None if own.grad is None else own.grad.clone()
        options = {**_RANKINGS[ranking], "pruning_ratio": ratio}
        pruner = tp.pruner.BasePruner(
            twin, torch.zeros(1, 3, size, size), importance=scorer, ignored_layers=find_head(twin), **options
        )
        for _ in range(options["iterative_steps"]):
            pruner.step()
        return twin

    try:
        return find_share(cut, macs, size)[1]
    except CannotCutError as error:
        raise CannotCutError(f"Torch-Pruning ({importance}, {ranking}): {error}") from error


def find_share(cut: Callable[[float], nn.Module], macs: float, size: int) -> tuple[float, nn.Module]:
    """The smallest share of channels whose cut leaves at most so many MACs, and the network that it leaves.

    It is looked for from below: a larger share is not always fewer MACs, since layers can be passed over.

    Raises:
        CannotCutError: no share leaves as few.
    """
    tried = ((step / _GRID, cut(step / _GRID)) for step in range(1, _GRID))
    found = next(((share, net) for share, net in tried if count_macs(net, size) <= macs), None)
    if found is None:
        raise CannotCutError(f"no share of channels leaves {macs:.3g} MACs")
    share, net = found
    low = share - 1 / _GRID
    for _ in range(_HALVINGS):
        middle = (low + share) / 2
        one = cut(middle)
        if count_macs(one, size) > macs:
            low = middle
        else:
            share, net = middle, one
    return share, net


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
