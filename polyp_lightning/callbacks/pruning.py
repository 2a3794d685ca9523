"""The pruning callback: wiring between Lightning's hooks and the functions of this package."""

from typing import Any, Literal, get_args

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from polyp_lightning.callbacks.averaging import averages, check_averaging
from polyp_lightning.callbacks.distributed import (
    agreed,
    check_strategy,
    reduce_scores,
    share_buffers,
    summed_scores,
    unwrap,
    wrap,
)
from polyp_lightning.callbacks.passes import gather, loss_scale, noise, recalibrate, validation_dice
from polyp_lightning.callbacks.schedule import Schedule, Shape
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError
from polyp_lightning.deploy.timer_by_name import build_timer
from polyp_lightning.networks.complexity import measure
from polyp_lightning.pruning.budget import (
    Allocation,
    Dense,
    Limits,
    build_recipe,
    check_reachable,
)
from polyp_lightning.pruning.compiled import forget_compiled
from polyp_lightning.pruning.criteria import build_criterion
from polyp_lightning.pruning.exactness import assert_exact
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.optimizer_state import cut_optimizer_state, forget_plateaus
from polyp_lightning.pruning.surgery import remove
from polyp_lightning.pruning.tracing.trace import trace
from polyp_lightning.pruning.widths import filters, per_block

Check = Literal["first", "always", "never"]
_NO_LIMITS = Limits()


class TaylorFOPruning(Callback):
    """Removes the least important filters while the network trains.

    In the epoch before each cut it gathers TaylorFO scores from the ordinary training steps; at the start of the next
    epoch it removes the components with the least score until the schedule's share of the way to the target is
    covered, cuts the optimizer's state likewise and recalibrates batch norm. The epochs after the last cut are the
    fine-tuning tail. Other criteria take TaylorFO's place by name, so that everything else stays equal.

    Cuts happen at the *start* of an epoch, so that a checkpoint written at the end of one never holds a network under
    the metric of another.

    Args:
        target: share of the dense MACs to keep in the end; 1 trains the dense network. Dense is the network that the
            run begins with: after ``--model.init_from`` that of the checkpoint, pruned or not.
        start: epoch (from 0) of the first cut.
        end: epoch of the last cut.
        every: epochs between cuts.
        schedule: how what is left falls from dense to target over the cuts: linear, cubic or one_shot.
        criterion: what is least important: taylor, or one of the controls in :mod:`polyp_lightning.pruning.criteria`.
        options: the criterion's own options by name, such as ``reduction: square``.
        allocation: how scores become widths: ``global`` ranking, ``per_cost``, or the ``optimal`` widths for the least
            sum of removed scores.
        limits: floor, ceiling, rounding and protected layers.
        target_params: in place of ``target``: share of the dense network's used parameters to keep.
        target_gmacs: in place of ``target``: 10⁹ MACs for one image at the run's image size.
        target_ms: in place of ``target``: milliseconds per frame, as measured here on the cut network.
        backend: where milliseconds are measured: torch, onnxruntime, openvino or openvino-bf16.
        threads: of the backend.
        latency_table: file of layer times by which widths are chosen for ``target_ms``, measured where there is none;
            null chooses them by MACs.
        scoring_batches: training batches for criteria that run passes of their own; taylor watches a whole epoch.
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
        criterion: str = "taylor",
        options: dict[str, Any] | None = None,
        allocation: Allocation = "global",
        limits: Limits = _NO_LIMITS,
        target_params: float | None = None,
        target_gmacs: float | None = None,
        target_ms: float | None = None,
        backend: str = "torch",
        threads: int = 1,
        latency_table: str | None = None,
        scoring_batches: int = 16,
        recalibration_batches: int = 8,
        check: Check = "first",
    ) -> None:
        _check_options(scoring_batches, recalibration_batches, check)
        self.recipe = build_recipe(
            target,
            target_params=target_params,
            target_gmacs=target_gmacs,
            target_ms=target_ms,
            limits=limits,
            allocation=allocation,
            make_timer=lambda: build_timer(backend, threads),
            latency_table=latency_table,
        )
        self.target = self.recipe.target
        self.method = "dense" if self.target.is_everything else criterion
        self.schedule = Schedule(start, end, every, schedule)
        self.scoring_batches = scoring_batches
        self.recalibration_batches = recalibration_batches
        self.check = check
        self.history: list[StageRecord] = []
        self._criterion = build_criterion(criterion, **(options or {}))
        self._dense: Dense | None = None
        self._graph: ChannelGraph | None = None
        self._steps = 0
        self._scores_of_all = False
        self._fits = True

    @property
    def stage(self) -> int:
        """How many cuts have been made."""
        return self.history[-1].stage if self.history else 0

    def left_at(self, epoch: int) -> float | None:
        """Share of the way to the target that is still to go after the cut at ``epoch``; None where there is none."""
        return None if self.target.is_everything else self.schedule.left_at(epoch)

    def cuts_after(self, epoch: int) -> bool:
        """Whether a cut is still to come after ``epoch``."""
        return not self.target.is_everything and self.schedule.epochs[-1] > epoch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work before anything is trained."""
        self._fits = stage == "fit"
        if not self._fits:
            return
        if trainer.current_epoch == 0:
            # Another network than that of an earlier fit; a checkpoint brings its own history, after this.
            self.history.clear()
            self._criterion.reset(1)
        if self.target.is_everything:
            return
        check_strategy(trainer)
        check_averaging(trainer)
        _warn_of_early_stopping(trainer)
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
        if self._scores_of_all and not trainer.is_global_zero:
            # They are added up again before the cut, so that one process may have them only.
            self._criterion.clear()
        self._scores_of_all = False
        if not self.history:
            self._dense = self.recipe.dense(_net(pl_module), self._current_graph())
            self.history.append(self._record(pl_module, trainer.current_epoch))
            self._tell_reference(pl_module)
            if not self.target.is_everything and not self.target.is_measured:
                check_reachable(self._current_graph(), self.target, limits=self.recipe.limits)
        if trainer.fit_loop.restarted_mid_epoch:
            # Lightning does not call on_train_epoch_start for an epoch that it resumes.
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut where the schedule says so, then watch the epoch if the next one begins with a cut."""
        epoch = trainer.current_epoch
        left = self.left_at(epoch)
        if left is not None and self.history[-1].epoch < epoch:
            self._cut(trainer, pl_module, left)
        if self.left_at(epoch + 1) is not None and self._criterion.rides_along:
            self._criterion.attach(_net(pl_module), self._current_graph())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Tell the criterion what a gradient scaler (16-mixed) multiplies the loss with."""
        self._steps, self._criterion.loss_scale = trainer.global_step, loss_scale(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take back what was scored for a step that a gradient scaler skipped: nothing was learnt from its images.

        Gradients have been averaged over all processes by then, so that all of them skip the same steps.
        """
        if trainer.global_step > self._steps:
            # It lowers its factor after a step that it skipped, and after no other.
            skipped = loss_scale(trainer) < self._criterion.loss_scale
            self._criterion.take_back() if skipped else self._criterion.keep()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop watching."""
        self._criterion.detach()
        # Passes of a criterion's own are not scaled.
        self._criterion.loss_scale = 1.0

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
            "scored_by": self._criterion.name,
            "criterion": self._criterion.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            ConfigError: it is something else, or a fit's that had another criterion.
        """
        if self._fits:
            _check_criterion(state_dict, self._criterion.name)
        try:
            self.history = [StageRecord.from_dict(values) for values in state_dict["history"]]
            self._dense = Dense.from_dict(state_dict["dense"]) if state_dict["dense"] else None
            _check_stages(self.history, self._dense)
            # Other verbs score nothing, and are not told which criterion the run had.
            if self._fits:
                self._criterion.load_state_dict(state_dict["criterion"])
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            msg = (
                f"the checkpoint's record of its cuts is damaged ({type(error).__name__}: {error}); "
                f"{ANOTHER_CHECKPOINT}"
            )
            raise ConfigError(msg) from error
        self._scores_of_all = self._fits

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store what all processes have scored; every one of them gets here."""
        checkpoint["callbacks"][self.state_key]["criterion"] = summed_scores(trainer, self._criterion)

    def _cut(self, trainer: Trainer, pl_module: LightningModule, left: float) -> None:
        """The effect of a cut on the network, the optimizer and the records."""
        net, removed = _net(pl_module), agreed(trainer, self._choose(trainer, pl_module, left))
        if self.check == "always" or (self.check == "first" and self.stage == 0):
            assert_exact(net, self._current_graph(), removed, noise(_image_size(pl_module)))
        unwrap(trainer)
        copies = averages(trainer)
        for copy in copies:
            remove(_net(copy), self._current_graph(), removed)
        cut_optimizer_state(trainer.optimizers, net, remove(net, self._current_graph(), removed))
        forget_compiled(net)
        forget_plateaus(config.scheduler for config in trainer.lr_scheduler_configs)
        self._trace(pl_module)
        self._criterion.reset(self._current_graph().size)
        for module in (pl_module, *copies):
            if self.recalibration_batches:
                recalibrate(trainer, module, self.recalibration_batches)
        wrap(trainer, net)
        for copy in copies:
            share_buffers(trainer, copy)
        record = self._record(pl_module, trainer.current_epoch)
        record.removed = int(removed.sum())
        record.dice_before = self.history[-1].dice_end
        # Of the weights that Lightning validates.
        record.dice_after = validation_dice(trainer, copies[0] if copies else pl_module)
        self.history.append(record)

    def _choose(self, trainer: Trainer, pl_module: LightningModule, left: float) -> Removed:
        """Which components go."""
        self._criterion.detach()
        net, graph = _net(pl_module), self._current_graph()
        if not self._criterion.rides_along:
            gather(trainer, pl_module, self._criterion, graph, self.scoring_batches)
        reduce_scores(trainer, self._criterion)
        return self.recipe.choose(net, graph, self._criterion.importance(net, graph), self._dense, left)

    def _tell_reference(self, pl_module: LightningModule) -> None:
        """Say what the target is a share of, where a run begins with a network that may have been pruned before."""
        if getattr(pl_module, "init_from", None) and self.target.is_share and not self.target.is_everything:
            now = self.history[0]
            rank_zero_info(
                f"The network of --model.init_from has {now.gmacs:.3f} GMACs and {now.params:,} parameters in use: "
                f"{self.target} means of these, not of the network it was once cut from"
            )

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
        share = graph.total_macs() / (self._dense.cost("macs") if self._dense else graph.total_macs())
        number = self.stage + 1 if self.history else 0
        return StageRecord(number, epoch, cost.gmacs, share, cost.params_used, per_block(layers), layers)


def _check_options(scoring: int, recalibration: int, check: str) -> None:
    faults = [
        (scoring < 1, f"scoring_batches is {scoring}; give 1 or more"),
        (recalibration < 0, f"recalibration_batches is {recalibration}; give 0 (none) or more"),
        (check not in get_args(Check), f"check is {check!r}; choose one of {', '.join(get_args(Check))}"),
    ]
    for wrong, what in faults:
        if wrong:
            msg = f"--pruning.{what}"
            raise ConfigError(msg)


def _check_criterion(state: Any, criterion: str) -> None:
    scored_by = state.get("scored_by") if isinstance(state, dict) else None
    if scored_by not in (None, criterion):
        msg = (
            f"the checkpoint of --ckpt_path comes from a run with --pruning.criterion {scored_by}, not {criterion}; a "
            "run that goes on keeps its criterion (to prune its network by another one, give the checkpoint to "
            "--model.init_from)"
        )
        raise ConfigError(msg)


def _check_stages(history: list[StageRecord], dense: Dense | None) -> None:
    """There is a first one, and each cut makes the next: a run that has begun has both."""
    stages, epochs = [row.stage for row in history], [row.epoch for row in history]
    if not history or dense is None or stages != list(range(len(history))) or epochs != sorted(set(epochs)):
        msg = f"its {len(history)} stages are not whole"
        raise ValueError(msg)


def _warn_of_early_stopping(trainer: Trainer) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # Not its subclasses: one of them counts in the tail only.
        if type(callback) is EarlyStopping:
            rank_zero_warn(
                "EarlyStopping takes the dip after a cut for the end, and may stop before the last cut; take "
                "polyp_lightning.tracking.TailEarlyStopping (--trainer.callbacks), which counts after it"
            )


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
