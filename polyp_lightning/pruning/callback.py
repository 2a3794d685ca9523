"""The pruning callback: wiring between Lightning's hooks and the functions of this package."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from polyp_lightning.complexity import measure
from polyp_lightning.errors import ConfigError
from polyp_lightning.metrics import PerImageDice
from polyp_lightning.pruning.budget import Dense, Limits, check_reachable, select
from polyp_lightning.pruning.criteria import TaylorFO
from polyp_lightning.pruning.criteria.taylor import Reduction
from polyp_lightning.pruning.exactness import assert_exact
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.optimizer_state import cut_optimizer_state
from polyp_lightning.pruning.schedule import Schedule, Shape
from polyp_lightning.pruning.stages import StageRecord
from polyp_lightning.pruning.surgery import remove
from polyp_lightning.pruning.tracing import trace
from polyp_lightning.pruning.widths import filters, per_block

Check = Literal["first", "always", "never"]


class TaylorFOPruning(Callback):
    """Removes the least important filters while the network trains.

    In the epoch before each cut it gathers TaylorFO scores from the ordinary training steps; at the start of the next
    epoch it removes the components with the least score until the schedule's share of the dense MACs is left, cuts
    the optimizer's state likewise and recalibrates batch norm. The epochs after the last cut are the fine-tuning
    tail.

    Cuts happen at the *start* of an epoch, so that a checkpoint written at the end of one never holds a network under
    the metric of another.

    Args:
        target: share of the dense MACs to keep in the end; 1 trains the dense network.
        start: epoch (from 0) of the first cut.
        end: epoch of the last cut.
        every: epochs between cuts.
        schedule: how the share falls from 1 to target over the cuts: linear, cubic or one_shot.
        floor: least share of each dense layer's filters that stays.
        round_to: widths of cut layers become multiples of this (8 suits most hardware).
        reduction: abs, square or signed; see :class:`~polyp_lightning.pruning.criteria.taylor.TaylorFO`.
        normalise: divide each image's score by the norm of its gradient at the output, as the seed paper has it.
        recalibration_batches: training batches for new batch-norm statistics after a cut; 0 leaves the old ones.
        check: compare masked and pruned network in float64 at the first cut, always or never.
    """

    def __init__(
        self,
        target: float = 0.25,
        start: int = 8,
        end: int = 12,
        every: int = 1,
        schedule: Shape = "cubic",
        floor: float = 0.1,
        round_to: int = 1,
        reduction: Reduction = "abs",
        normalise: bool = True,
        recalibration_batches: int = 8,
        check: Check = "first",
    ) -> None:
        _check_options(floor, round_to, recalibration_batches, check)
        self.schedule = Schedule(target, start, end, every, schedule)
        self.limits = Limits(floor=floor, round_to=round_to)
        self.recalibration_batches = recalibration_batches
        self.check = check
        self.history: list[StageRecord] = []
        self._criterion = TaylorFO(reduction, normalise=normalise)
        self._dense: Dense | None = None
        self._graph: ChannelGraph | None = None

    @property
    def stage(self) -> int:
        """How many cuts have been made."""
        return self.history[-1].stage if self.history else 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work before anything is trained."""
        if stage != "fit":
            return
        if trainer.current_epoch == 0:
            # Another network than that of an earlier fit; a checkpoint brings its own history, after this.
            self.history.clear()
            self._criterion.reset(1)
        if not self.schedule.epochs:
            return
        if trainer.world_size > 1:
            msg = f"pruning runs in one process, got {trainer.world_size}; set --trainer.devices 1"
            raise ConfigError(msg)
        last, epochs = self.schedule.epochs[-1], trainer.max_epochs
        if not trainer.fast_dev_run and epochs not in (None, -1) and last >= epochs:  # type: ignore[attr-defined]
            msg = (
                f"the last cut is at epoch {last}, but training ends after {epochs} epochs (0 to {epochs - 1}); "
                "lower --pruning.end or raise --trainer.max_epochs"
            )
            raise ConfigError(msg)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Trace the network: the dense one, or in a resumed run the pruned one."""
        self._trace(pl_module)
        if not self.history:
            self._dense = Dense.of(self._current_graph())
            self.history.append(self._record(pl_module, trainer.current_epoch))
            if self.schedule.epochs:
                check_reachable(self._current_graph(), self.schedule.target, limits=self.limits)
        if trainer.fit_loop.restarted_mid_epoch:
            # Lightning does not call on_train_epoch_start for an epoch that it resumes.
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut where the schedule says so, then watch the epoch if the next one begins with a cut."""
        epoch = trainer.current_epoch
        target = self.schedule.target_at(epoch)
        if target is not None and self.history[-1].epoch < epoch:
            self._cut(trainer, pl_module, target)
        if self.schedule.target_at(epoch + 1) is not None:
            self._criterion.attach(_net(pl_module), self._current_graph())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop watching."""
        self._criterion.detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._criterion.detach()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validated network costs."""
        if self.history and _is_of_the_fit(trainer):
            now = self.history[-1]
            costs = {"complexity/gmacs": now.gmacs, "complexity/params": now.params, "stage": now.stage}
            pl_module.log_dict({name: float(value) for name, value in costs.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take down the stage's Dice."""
        dice = trainer.callback_metrics.get("val/dice")
        if self.history and dice is not None and _is_of_the_fit(trainer):
            now = self.history[-1]
            now.dice_end = float(dice)
            now.dice_best = max(now.dice_end, now.dice_best or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """History and scores as plain values and tensors."""
        return {
            "history": [record.as_dict() for record in self.history],
            "dense": self._dense.as_dict() if self._dense else None,
            "criterion": self._criterion.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.history = [StageRecord.from_dict(values) for values in state_dict["history"]]
        self._dense = Dense.from_dict(state_dict["dense"]) if state_dict["dense"] else None
        self._criterion.load_state_dict(state_dict["criterion"])

    def _cut(self, trainer: Trainer, pl_module: LightningModule, target: float) -> None:
        """The effect of a cut on the network, the optimizer and the records."""
        self._criterion.detach()
        net, graph = _net(pl_module), self._current_graph()
        removed = select(
            graph,
            self._criterion.importance(net, graph),
            target,
            limits=self.limits,
            dense=self._dense,
        )
        if self.check == "always" or (self.check == "first" and self.stage == 0):
            assert_exact(net, graph, removed, _noise(pl_module))
        cut_optimizer_state(trainer.optimizers, net, remove(net, graph, removed))
        self._trace(pl_module)
        self._criterion.reset(self._current_graph().size)
        if self.recalibration_batches:
            _recalibrate(trainer, pl_module, self.recalibration_batches)
        record = self._record(pl_module, trainer.current_epoch)
        record.removed = int(removed.sum())
        record.dice_before = self.history[-1].dice_end
        record.dice_after = _validation_dice(trainer, pl_module)
        self.history.append(record)

    def _trace(self, pl_module: LightningModule) -> None:
        size = _image_size(pl_module)
        self._graph = trace(_net(pl_module), (2, 3, size, size))

    def _current_graph(self) -> ChannelGraph:
        if self._graph is None:
            msg = "the network has not been traced; TaylorFOPruning has to see on_train_start first"
            raise RuntimeError(msg)
        return self._graph

    def _record(self, pl_module: LightningModule, epoch: int) -> StageRecord:
        cost = measure(_net(pl_module), _image_size(pl_module))
        graph = self._current_graph()
        layers = filters(_net(pl_module), graph.executed)
        share = graph.total_macs() / (self._dense.macs if self._dense else graph.total_macs())
        number = self.stage + 1 if self.history else 0
        return StageRecord(number, epoch, cost.gmacs, share, cost.params_used, per_block(layers), layers)


def _check_options(floor: float, round_to: int, batches: int, check: str) -> None:
    faults = [
        (not 0 <= floor <= 1, f"floor is {floor}; it is a share of a layer's filters in [0, 1]"),
        (round_to < 1, f"round_to is {round_to}; give 1 (no rounding) or more"),
        (batches < 0, f"recalibration_batches is {batches}; give 0 (none) or more"),
        (check not in get_args(Check), f"check is {check!r}; choose one of {', '.join(get_args(Check))}"),
    ]
    for wrong, what in faults:
        if wrong:
            msg = f"--pruning.{what}"
            raise ConfigError(msg)


def _is_of_the_fit(trainer: Trainer) -> bool:
    """False in sanity checks and in ``trainer.validate``, whose data and weights may be others."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def _net(pl_module: LightningModule) -> nn.Module:
    """The network to prune: the part of the module that images go through."""
    net = pl_module.net
    if not isinstance(net, nn.Module):
        msg = f"{type(pl_module).__name__}.net is a {type(net).__name__}; TaylorFOPruning needs an nn.Module there"
        raise ConfigError(msg)
    return net


def _image_size(pl_module: LightningModule) -> int:
    return int(pl_module.hparams["image_size"])


def _noise(pl_module: LightningModule) -> Tensor:
    """One image for the exactness check; a generator of its own leaves the training's random numbers alone."""
    size = _image_size(pl_module)
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _on_device(trainer: Trainer, pl_module: LightningModule, loader: Any) -> Iterator[dict[str, Any]]:
    for batch in loader:
        yield trainer.strategy.batch_to_device(batch, pl_module.device)


def _recalibrate(trainer: Trainer, pl_module: LightningModule, batches: int) -> None:
    """New running statistics from a few training batches; order and random numbers of the training stay as is."""
    loader: Any = trainer.train_dataloader
    with _modes_kept(pl_module), isolate_rng(), _position_kept(loader), trainer.precision_plugin.forward_context():
        some = islice(_on_device(trainer, pl_module, loader), batches)
        update_bn((batch["image"] for batch in some), pl_module)


@contextmanager
def _modes_kept(net: nn.Module) -> Iterator[None]:
    """Each module is afterwards in the mode it was in: frozen parts stay in eval mode."""
    modes = {module: module.training for module in net.modules()}
    yield
    for module, training in modes.items():
        module.training = training


@contextmanager
def _position_kept(loader: Any) -> Iterator[None]:
    """The loader's sampler and generator are afterwards where they were, as if nobody had iterated."""
    sampler = getattr(loader, "sampler", None)
    epoch = getattr(sampler, "epoch", None)
    generators = [g for owner in (loader, sampler) if (g := getattr(owner, "generator", None)) is not None]
    states = [generator.get_state() for generator in generators]
    yield
    if epoch is not None:
        sampler.set_epoch(epoch)  # type: ignore[union-attr]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


@torch.no_grad()
def _validation_dice(trainer: Trainer, pl_module: LightningModule) -> float | None:
    """Per-image Dice over the validation set, outside Lightning's own loop; None where there is none."""
    loader: Any = trainer.val_dataloaders
    if isinstance(loader, list) and len(loader) == 1:
        loader = loader[0]
    if loader is None or isinstance(loader, (list, dict)):
        return None
    metric = PerImageDice().to(pl_module.device)
    with _modes_kept(pl_module), isolate_rng(), trainer.precision_plugin.forward_context():
        pl_module.eval()
        # --trainer.limit_val_batches holds here too; infinite where the loader has no length.
        limit = trainer.num_val_batches[0]
        for batch in islice(_on_device(trainer, pl_module, loader), None if limit == float("inf") else int(limit)):
            metric.update(pl_module(batch["image"]) > 0, batch["mask"])
    return float(metric.compute())
