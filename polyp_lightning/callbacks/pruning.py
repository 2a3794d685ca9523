"""The pruning callback: wiring between Lightning's hooks and the functions of this package."""

from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from polyp_lightning.callbacks.averaging import averaged_copies, places_of, validated_copy
from polyp_lightning.callbacks.checks import Check, check_criterion, check_options, check_stages, warn_of_early_stopping
from polyp_lightning.callbacks.choice import Choice, set_statistics, try_cut
from polyp_lightning.callbacks.distributed import (
    agreed,
    check_strategy,
    reduce_scores,
    share_buffers,
    summed_scores,
    unwrap,
    wrap,
)
from polyp_lightning.callbacks.monitored import Mode, Monitor, find_monitor
from polyp_lightning.callbacks.net_finder import NetFinder
from polyp_lightning.callbacks.observation import Observation
from polyp_lightning.callbacks.passes import beside_training, check_steps, step_loss
from polyp_lightning.callbacks.records import describe_stage, explain_cut, warn_of_frozen
from polyp_lightning.callbacks.replay import renew_norms
from polyp_lightning.callbacks.run_length import check_run, is_fitting, is_last_batch
from polyp_lightning.callbacks.schedule import Interval, Schedule, Shape
from polyp_lightning.callbacks.stored_example import as_plain, from_plain
from polyp_lightning.callbacks.stored_plan import PlanKeeper
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError
from polyp_lightning.common.options import option
from polyp_lightning.deploy.benchmark.timers import build_timer
from polyp_lightning.pruning import ChannelGraph, Example, assert_exact, cut_optimizer_state, remove, trace
from polyp_lightning.pruning.budget import Allocation, Dense, Limits, build_recipe, check_reachable
from polyp_lightning.pruning.compiled import forget_compiled
from polyp_lightning.pruning.criteria import build_criterion
from polyp_lightning.pruning.graph import Removed
from polyp_lightning.pruning.optimizer_state import forget_plateaus

_NO_LIMITS = Limits()


class TaylorFOPruning(Callback):
    """Removes the least important filters of a network while it trains.

    Works with any LightningModule: the network, what it is called with and the metric are found, or named. Before each
    cut it gathers TaylorFO importances from the ordinary training steps; at the cut it removes the components of least
    importance until the schedule's share of the way to the target is covered, cuts the optimizer's state likewise and
    renews the statistics of batch norm. The time after the last cut is the fine-tuning tail. Other criteria take
    TaylorFO's place by name; everything else stays equal.

    Cuts happen at the *start* of an epoch, so a checkpoint written at the end of one never holds a network under the
    metric of another. Every checkpoint holds the architecture: ``fit``, ``validate`` and ``test`` take any of them with
    ``ckpt_path``, and :func:`polyp_lightning.callbacks.load_from_checkpoint` loads one without a Trainer.

    Args:
        target: share of the dense MACs to keep in the end; 1 trains the dense network. Or a value with its unit, such
            as ``1.5 gmacs``: see :data:`polyp_lightning.pruning.budget.UNITS`. Dense is the network that the run begins
            with, pruned before or not.
        start: epoch (from 0) of the first cut; a step where ``interval`` is ``step``.
        end: epoch of the last cut; likewise.
        every: epochs or steps between cuts.
        schedule: how what is left falls from dense to target over the cuts: linear, cubic or one_shot.
        criterion: what is least important: taylor, or one of the controls in :mod:`polyp_lightning.pruning.criteria`.
        options: the criterion's own options by name, such as ``reduction: square``.
        allocation: how importances become widths: ``global`` ranking, ``per_cost``, or the ``optimal`` widths for the
            least sum of removed importances.
        limits: floor, ceiling, rounding and protected layers.
        target_params: in place of ``target``: share of the dense network's used parameters to keep.
        target_gmacs: in place of ``target``: 10⁹ MACs for one item of a batch, at the size of the first batch.
        target_ms: in place of ``target``: milliseconds per frame, as measured here on the cut network.
        backend: where milliseconds are measured: torch, onnxruntime, openvino or openvino-bf16.
        threads: of the backend.
        latency_table: file of layer times by which widths are chosen for ``target_ms``, measured where there is none;
            null chooses them by MACs.
        scoring_batches: training batches for criteria that run passes of their own; taylor watches a whole epoch, or
            as many steps as lie between cuts and at least this many.
        recalibration_batches: the last inputs of the network before a cut, from which batch norm gets new statistics
            after it; 0 leaves the old ones. Only norms that train are renewed.
        check: compare masked and pruned network in float64 at the first cut, always or never.
        interval: ``epoch``, or ``step`` to count ``start``, ``end`` and ``every`` in steps of the optimizer
            (``trainer.global_step``), where epochs are very long or have no end.
        module: name of the submodule to prune, such as ``model.backbone``, or ``""`` for the LightningModule itself;
            null finds the one that training steps call and that holds nearly all trainable parameters.
        example: what that network is called with, as :func:`polyp_lightning.pruning.trace` takes it; null takes the
            shapes of the first training batch, or of the module's ``example_input_array``.
        monitor: the metric to record, as it is logged; null takes that of the run's ModelCheckpoint, else of its
            EarlyStopping.
        mode: whether larger (``max``) or smaller values (``min``) of ``monitor`` are better.

    Attributes:
        history: a record of each stage, the dense one first.
    """

    def __init__(
        self,
        target: float | str = 0.25,
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
        interval: Interval = "epoch",
        module: str | None = None,
        example: Any = None,
        monitor: str | None = None,
        mode: Mode = "max",
    ) -> None:
        check_options(scoring_batches, recalibration_batches, check, mode)
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
        self.schedule = Schedule(start, end, every, schedule, interval)
        self.scoring_batches = scoring_batches
        self.recalibration_batches = recalibration_batches
        self.check = check
        self.module = module
        self.example = None if example is None else Example.of(example)
        self.history: list[StageRecord] = []
        self._given_monitor = None if monitor is None else Monitor(monitor, mode)
        self._monitor: Monitor | None = None
        self._criterion = build_criterion(criterion, **(options or {}))
        self._fits = True
        self._forget()

    def _forget(self) -> None:
        """Everything that belongs to one network."""
        self.history.clear()
        self._criterion.reset(1)
        self._finder = NetFinder(self.module, self.example)
        self._found = False
        self._dense: Dense | None = None
        self._graph: ChannelGraph | None = None
        self._observation = Observation(self._criterion, self.scoring_batches, self.recalibration_batches)
        self._scored_for: int | None = None
        self._choice: Choice | None = None
        self._steps = 0
        self._scores_of_all = False
        self._told: set[str] = set()

    @property
    def stage(self) -> int:
        """How many cuts have been made."""
        return self.history[-1].stage if self.history else 0

    def left_at(self, moment: int) -> float | None:
        """Share of the way to the target that is still to go after the cut at a moment; None where there is none."""
        return None if self.target.is_everything else self.schedule.left_at(moment)

    def cuts_after(self, epoch: int) -> bool:
        """Whether a cut is still to come after ``epoch``; in a schedule of steps, after the current one."""
        now = epoch if self.schedule.interval == "epoch" else self._steps
        return not self.target.is_everything and self.schedule.last > now

    # --- beginning

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot work before anything is trained."""
        self._fits = stage == "fit"
        PlanKeeper.of(pl_module)
        if not self._fits:
            return
        if trainer.current_epoch == 0 and trainer.global_step == 0:
            # Another network than that of an earlier fit; a checkpoint brings its own history, after this.
            self._forget()
        if self.target.is_everything:
            return
        check_strategy(trainer)
        check_steps(self._criterion, pl_module)
        warn_of_early_stopping(trainer)
        check_run(trainer, self.schedule, with_data=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the network where that takes no batch: the dense one, or in a resumed run the pruned one."""
        self._monitor = self._given_monitor or find_monitor(trainer.callbacks)  # type: ignore[attr-defined]
        if not self.target.is_everything:
            check_run(trainer, self.schedule, with_data=True, resumed_at=self._last_moment() if self.history else None)
        if self._scores_of_all and not trainer.is_global_zero:
            # They are added up again before the cut, so that one process may have them only.
            self._criterion.clear()
        self._scores_of_all = False
        if not self._finder.is_known:
            self._finder.ask_for_example(trainer, pl_module)
        if self._finder.is_known:
            self._begin(trainer, pl_module)
        if trainer.fit_loop.restarted_mid_epoch:
            # Lightning does not call on_train_epoch_start for an epoch that it resumes.
            self.on_train_epoch_start(trainer, pl_module)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Traces the network, and records the dense one where nothing is recorded yet."""
        name = self._finder.resolve_compiled(pl_module)
        places_of(pl_module, name)
        PlanKeeper.of(pl_module).begin(name)
        self._found = True
        self._trace(pl_module)
        if self.history:
            return
        net, graph = self._net(pl_module), self._current_graph()
        self._dense = self.recipe.dense(net, graph)
        self.history.append(self._record(trainer, pl_module))
        self._tell_reference(pl_module)
        if not self.target.is_everything:
            warn_of_frozen(self.history[0])
        if not self.target.is_everything and not self.target.is_measured:
            check_reachable(graph, self.target, limits=self.recipe.limits)

    # --- training

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cuts where the schedule says so, then watches the epoch if the next one begins with a cut."""
        if self._found and self.schedule.interval == "epoch":
            self._cut_if_due(trainer, pl_module, trainer.current_epoch)
            if self.left_at(trainer.current_epoch + 1) is not None:
                self._observe(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks for the network in the first batch; tells the criterion the factor of a gradient scaler (16-mixed)."""
        self._steps = trainer.global_step
        if not self._found:
            self._finder.start_watch(trainer, pl_module)
            return
        if self.schedule.interval == "step":
            self._cut_if_due(trainer, pl_module, trainer.global_step)
            to_come = self._next_cut(trainer.global_step)
            window = max(self.schedule.every, self.scoring_batches)
            if to_come is not None and to_come - window <= trainer.global_step and not self._observation.is_on:
                self._observe(pl_module)
        self._observation.begin_step(trainer, batch, batch_idx, near=self._is_near(trainer, batch_idx))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Settles what was scored in the step; after the first batch, settles which network it is."""
        if self._finder.is_watching:
            self._end_watch(trainer, pl_module, batch, batch_idx)
            return
        if not self._observation.is_on:
            return
        self._observation.end_step(trainer, self._net(pl_module), self._steps)
        if self.schedule.interval == "epoch" and is_last_batch(trainer):
            self._scored_for = trainer.current_epoch + 1

    def _end_watch(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins with the network that the first batch called."""
        self._finder.end_watch(pl_module)
        self._begin(trainer, pl_module)
        if self.target.is_everything:
            return
        if self._criterion.needs_loss:
            # A fault in the step shows now, and not at the first cut.
            with beside_training(trainer), torch.no_grad():
                step_loss(trainer, pl_module, batch, batch_idx)
        epochs = self.schedule.interval == "epoch"
        if (epochs and is_last_batch(trainer) and self.schedule.start == 1) or (not epochs and self.schedule.start < 2):
            msg = (
                "the first training batch showed which network is to be pruned, and no other comes before the first "
                f"cut; raise {option('pruning.start')}, or give "
                f"{option('pruning.module', repr(self._finder.name))} and {option('pruning.example')}"
            )
            raise ConfigError(msg)
        if epochs and self.left_at(trainer.current_epoch + 1) is not None:
            self._observe(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops watching."""
        if self.schedule.interval == "epoch":
            self._stop_observing()
            # Passes of a criterion's own are not scaled.
            self._criterion.loss_scale = 1.0

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves no hook behind."""
        self._stop_observing()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so if the target was not reached."""
        self._stop_observing()
        missed = [] if self.target.is_everything or not self.history else self._missed()
        if missed and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_warn(
                f"training ended before {len(missed)} of {len(self.schedule.moments)} cuts: the network has "
                f"{self.history[-1].share:.1%} of the dense MACs, and the target is {self.target}"
            )

    def _missed(self) -> range:
        return self.schedule.moments[self.stage :]

    # --- what is observed

    def _observe(self, pl_module: LightningModule) -> None:
        """Scores from now on, and keeps the last inputs; what was compiled runs uncompiled, to be seen."""
        self._observation.start(self._net(pl_module), self._current_graph())
        self._scored_for = self._choice = None

    def _stop_observing(self) -> None:
        self._observation.stop()
        self._finder.stop()

    def _is_near(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether this batch is one of the last before the cut, as far as that is known."""
        count = self._observation.count
        if self.schedule.interval == "step":
            to_come = self._next_cut(trainer.global_step)
            return to_come is not None and to_come - trainer.global_step <= count
        return trainer.num_training_batches - batch_idx <= count or trainer.num_training_batches == float("inf")

    def _last_moment(self) -> int:
        last = self.history[-1]
        return last.epoch if self.schedule.interval == "epoch" else last.step

    def _next_cut(self, step: int) -> int | None:
        return None if self.target.is_everything else self.schedule.next_after(step)

    # --- cutting

    def _cut_if_due(self, trainer: Trainer, pl_module: LightningModule, moment: int) -> None:
        due = moment if self.schedule.interval == "epoch" else self.schedule.latest(moment)
        left = None if due is None else self.left_at(due)
        if due is not None and left is not None and self._last_moment() < due:
            self._cut(trainer, pl_module, due, left)

    def _cut(self, trainer: Trainer, pl_module: LightningModule, moment: int, left: float) -> None:
        """The effect of a cut on the network, its averages, the optimizer and the records."""
        choice = self._choose_ahead(trainer, pl_module, moment, left, copies=False)
        net, nets, removed = self._net(pl_module), self._nets(trainer, pl_module), choice.removed
        if self.check == "always" or (self.check == "first" and self.stage == 0):
            assert_exact(net, self._current_graph(), removed, self._known_example.one_item())
        unwrap(trainer)
        for copied in nets[1:]:
            remove(copied, self._current_graph(), removed)
        cut_optimizer_state(trainer.optimizers, net, remove(net, self._current_graph(), removed))
        forget_compiled(pl_module)
        forget_plateaus(config.scheduler for config in trainer.lr_scheduler_configs)
        self._trace(pl_module)
        self._criterion.reset(self._current_graph().size)
        self._renew_norms(trainer, nets, choice)
        wrap(trainer, net)
        for copied in averaged_copies(trainer):
            share_buffers(trainer, copied)
        self._note_cut(trainer, pl_module, moment, left, removed)
        self._scored_for = self._choice = None
        self._observation.forget()

    def _renew_norms(self, trainer: Trainer, nets: list[nn.Module], choice: Choice) -> None:
        if not self.recalibration_batches:
            return
        if choice.statistics:
            set_statistics(nets, choice.statistics)
            return
        if not self._observation.last_calls():
            rank_zero_info("Batch norm keeps its statistics at this cut: the run was resumed right before it")
        with beside_training(trainer):
            for net in nets:
                renew_norms(net, self._observation.last_calls(), self._observation.modes)

    def _note_cut(
        self, trainer: Trainer, pl_module: LightningModule, moment: int, left: float, removed: Removed
    ) -> None:
        before, record = self.history[-1], self._record(trainer, pl_module)
        if self.schedule.interval == "step":
            record.step = moment
        explain_cut(record, before, self._net(pl_module), self._current_graph(), self.recipe, self._reference, left)
        record.criterion = self._criterion.name
        record.removed = int(removed.sum())
        record.score_before = before.score_end
        # Of the weights that Lightning validates.
        scored: Any = validated_copy(trainer, pl_module)
        score_after_cut = getattr(scored, "score_after_cut", None)
        record.score_after = score_after_cut(trainer) if callable(score_after_cut) else None
        self.history.append(record)

    def _choose_ahead(
        self, trainer: Trainer, pl_module: LightningModule, moment: int, left: float, *, copies: bool
    ) -> Choice:
        """The cut at a moment, chosen once; with ``copies``, also the statistics that come with it."""
        known = self._choice
        if known is not None and known.moment == moment and len(known.removed) == self._current_graph().size:
            return known
        removed = agreed(trainer, self._choose(trainer, pl_module, left))
        statistics: Any = ()
        if copies and self.recalibration_batches:
            with beside_training(trainer):
                nets, seen = self._nets(trainer, pl_module), self._observation
                statistics = try_cut(nets, self._current_graph(), removed, seen.last_calls(), seen.modes)
            self._choice = Choice(moment, removed, statistics)
        return Choice(moment, removed, statistics)

    def _choose(self, trainer: Trainer, pl_module: LightningModule, left: float) -> Removed:
        """Which components go."""
        self._stop_observing()
        self._criterion.loss_scale = 1.0
        net, graph = self._net(pl_module), self._current_graph()
        self._observation.run_passes(trainer, pl_module, net, graph)
        reduce_scores(trainer, self._criterion)
        self._scores_of_all = True
        return self.recipe.choose(net, graph, self._criterion.importance(net, graph), self._dense, left)

    # --- records

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what the validated network costs."""
        if self.history and is_fitting(trainer):
            now = self.history[-1]
            costs = {"complexity/gmacs": now.gmacs, "complexity/params": now.params, "stage": now.stage}
            pl_module.log_dict({name: float(value) for name, value in costs.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the metric of the stage."""
        if not self.history or not is_fitting(trainer):
            return
        value = self._monitor.value(trainer.callback_metrics) if self._monitor is not None else None
        if self._monitor is None or value is None:
            self._warn_of_monitor(trainer)
            return
        now = self.history[-1]
        now.score_end = value
        now.score_best = self._monitor.better(value, now.score_best)

    def _warn_of_monitor(self, trainer: Trainer) -> None:
        # Barebones: nothing is logged, as was asked for.
        if "monitor" in self._told or trainer.barebones:
            return
        self._told.add("monitor")
        found = "no metric is named to record" if self._monitor is None else f"{self._monitor.name!r} is not logged"
        logged = ", ".join(sorted(set(trainer.callback_metrics) - {"complexity/gmacs", "complexity/params", "stage"}))
        rank_zero_warn(
            f"{found}, so the stages have no scores; set {option('pruning.monitor')} to one of those logged: "
            f"{logged or 'none'}"
        )

    def _record(self, trainer: Trainer, pl_module: LightningModule) -> StageRecord:
        return describe_stage(
            self._net(pl_module),
            self._current_graph(),
            self._known_example,
            self._reference,
            stage=self.stage + 1 if self.history else 0,
            epoch=trainer.current_epoch,
            step=trainer.global_step if self.history else self._steps,
            metric=self._monitor.name if self._monitor is not None else "",
        )

    def _tell_reference(self, pl_module: LightningModule) -> None:
        """Says what the target is a share of, where a run begins with a network that may have been pruned before."""
        if getattr(pl_module, "init_from", None) and self.target.is_share and not self.target.is_everything:
            now = self.history[0]
            rank_zero_info(
                f"The network of {option('model.init_from')} has {now.gmacs:.3f} GMACs and {now.params:,} parameters "
                f"in use: {self.target} means of these, not of the network it was once cut from"
            )

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """History and scores as plain values and tensors."""
        return {
            "history": [record.as_dict() for record in self.history],
            "dense": self._dense.as_dict() if self._dense else None,
            "scored_by": self._criterion.name,
            "criterion": self._criterion.state_dict(),
            "module": self._finder.name,
            "example": as_plain(self._finder.example) if self._finder.example is not None else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            ConfigError: it is something else, or a fit's that had another criterion.
        """
        if self._fits:
            check_criterion(state_dict, self._criterion.name)
        try:
            self._load(state_dict)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            msg = (
                f"the checkpoint's record of its cuts is damaged ({type(error).__name__}: {error}); "
                f"{ANOTHER_CHECKPOINT}"
            )
            raise ConfigError(msg) from error
        self._scores_of_all = self._fits

    def _load(self, state: dict[str, Any]) -> None:
        self.history = [StageRecord.from_dict(values) for values in state["history"]]
        self._dense = Dense.from_dict(state["dense"]) if state["dense"] else None
        check_stages(self.history, self._dense)
        name, example, choice = state.get("module"), state.get("example"), state.get("next")
        self._finder.restore(None if name is None else str(name), None if example is None else from_plain(example))
        self._choice = None if choice is None else Choice.from_dict(choice)
        self._found = False
        # Other verbs score nothing, and are not told which criterion the run had.
        if self._fits:
            self._criterion.load_state_dict(state["criterion"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stores what all processes have scored, and what the next cut will be; every one of them gets here."""
        state = checkpoint["callbacks"][self.state_key]
        own = self._criterion
        state["criterion"] = own.state_dict() if self._scores_of_all else summed_scores(trainer, own)
        left = None if self._scored_for is None else self.left_at(self._scored_for)
        if self._scored_for is not None and left is not None:
            # The inputs that it takes are gone when a run is resumed.
            choice = self._choose_ahead(trainer, pl_module, self._scored_for, left, copies=True)
            state["next"] = choice.as_dict()

    # --- the network

    def _net(self, pl_module: LightningModule) -> nn.Module:
        return pl_module.get_submodule(str(self._finder.name))

    def _nets(self, trainer: Trainer, pl_module: LightningModule) -> list[nn.Module]:
        """The network, then its averages."""
        owners = [pl_module, *averaged_copies(trainer)]
        return [owner.get_submodule(name) for owner in owners for name in places_of(owner, str(self._finder.name))]

    def _trace(self, pl_module: LightningModule) -> None:
        self._graph = trace(self._net(pl_module), self._known_example)

    def _current_graph(self) -> ChannelGraph:
        return _known(self._graph)

    @property
    def _known_example(self) -> Example:
        return _known(self._finder.example)

    @property
    def _reference(self) -> Dense:
        return _known(self._dense)


T = TypeVar("T")


def _known(value: T | None) -> T:
    if value is None:
        msg = "the network has not been traced; TaylorFOPruning has to see on_train_start first"
        raise RuntimeError(msg)
    return value
