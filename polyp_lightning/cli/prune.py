"""The verb ``prune``: cuts a trained network in one step."""

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from torch.optim.swa_utils import update_bn

from polyp_lightning.checkpoints.file import write
from polyp_lightning.checkpoints.named import is_named
from polyp_lightning.cli.parser_errors import explain
from polyp_lightning.cli.parsing import give_switches_values, use_own_words
from polyp_lightning.cli.preview_table import build_frozen_table, build_preview_table
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.invocation import command
from polyp_lightning.common.terminal import show_text
from polyp_lightning.deploy.benchmark.timers import build_timer
from polyp_lightning.networks.complexity import measure
from polyp_lightning.networks.names import is_own
from polyp_lightning.pruning import ChannelGraph, assert_exact, drop_dead, remove, trace
from polyp_lightning.pruning.budget import Allocation, Cost, Limits, build_recipe, preview
from polyp_lightning.pruning.criteria import CRITERIA, Importance, build_criterion
from polyp_lightning.pruning.graph import Removed
from polyp_lightning.training.loaded_run import LoadedRun, load_run

_NO_LIMITS = Limits()


def prune(
    ckpt_path: str,
    target: float | str = 0.25,
    target_params: float | None = None,
    target_gmacs: float | None = None,
    target_ms: float | None = None,
    criterion: str = "taylor",
    options: dict[str, Any] | None = None,
    allocation: Allocation = "global",
    limits: Limits = _NO_LIMITS,
    backend: str = "torch",
    threads: int = 1,
    latency_table: str | None = None,
    batches: int = 16,
    batch_size: int = 8,
    recalibration_batches: int = 16,
    data_root: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    arch: str | None = None,
) -> None:
    """Cuts a trained network in one step, without training it.

    Importance is gathered in evaluation mode over a few training batches of the data that the checkpoint was trained
    on. Then the least important filters are removed for good, batch norm is recalibrated, and a checkpoint is written
    that test, predict, export and ``fit --model.init_from`` take.

    Args:
        ckpt_path: a checkpoint of fit or prune, or a network of the package by name.
        target: share of the network's MACs to keep; or a value with its unit, such as 1.5 gmacs.
        target_params: in place of target: share of its used parameters to keep.
        target_gmacs: in place of target: 10⁹ MACs for one image at the checkpoint's image size.
        target_ms: in place of target: milliseconds per frame, as measured here on the cut network.
        criterion: what is least important, by its name in :mod:`polyp_lightning.pruning.criteria`.
        options: the criterion's own options by name.
        allocation: how importances become widths: global, per_cost or optimal.
        limits: floor, ceiling, rounding and protected layers.
        backend: where milliseconds are measured: torch, onnxruntime, openvino or openvino-bf16.
        threads: of the backend.
        latency_table: file of layer times by which widths are chosen for target_ms, measured where there is none.
        batches: training batches to score on.
        batch_size: images in a batch.
        recalibration_batches: training batches for new batch-norm statistics; 0 leaves the old ones.
        data_root: the folder of data sets; by default $POLYP_DATA, or datasets/.
        output: the new checkpoint; by default beside the old one, or here if that is the package's.
        overwrite: replace an older file.
        dry_run: show what would be cut, and write nothing; on drawn phantoms where the data are not there.
        arch: package.module.Class, where the checkpoint's network is your own.
    """
    _check_counts(batches=(batches, 1), batch_size=(batch_size, 1), recalibration_batches=(recalibration_batches, 0))
    recipe = build_recipe(
        target,
        target_params=target_params,
        target_gmacs=target_gmacs,
        target_ms=target_ms,
        limits=limits,
        allocation=allocation,
        make_timer=lambda: build_timer(backend, threads),
        latency_table=latency_table,
    )
    wanted = recipe.target
    chosen = build_criterion(criterion, **(options or {}))
    name = f"pruned-{criterion}-{wanted.unit}{wanted.value:g}.ckpt"
    folder = Path() if is_named(Path(ckpt_path)) else Path(ckpt_path).parent
    goal = Path(output) if output else folder / name
    if goal.exists() and not (overwrite or dry_run):
        msg = f"{goal} exists; name another file with --output, or replace it with --overwrite"
        raise ConfigError(msg)
    # A preview writes nothing, and so may be made by the scores of other images, if that is said.
    stand_ins = batches * batch_size if dry_run else 0
    run = load_run(Path(ckpt_path), data_root, batch_size, [arch or ""], stand_ins)
    net = run.net
    graph = trace(net, (2, 3, run.image_size, run.image_size))
    chosen.gather(net, graph, run.inputs_and_masks(batches), run.loss)
    importance = chosen.importance(net, graph)
    cut = _Cut(run, graph, importance, recipe.choose(net, graph, importance))
    if dry_run:
        cut.show(recipe.predicted_ms(net, graph))
        return
    facts = {"criterion": criterion, "target": str(wanted), "allocation": allocation, "from": Path(ckpt_path).name}
    cut.make(recalibration_batches, goal, facts)


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`."""
    parser = make_parser()
    try:
        known = [name for action in parser._actions for name in action.option_strings]
        words = give_switches_values(use_own_words(arguments[1:], known))
        options = parser.instantiate_classes(parser.parse_args(words))
    except ArgumentError as error:
        raise ConfigError(explain(str(error), set(vars(parser.get_defaults())))) from error
    prune(**vars(options))
    return 0


def make_parser() -> ArgumentParser:
    """Makes the verb's parser, whose options and texts are those of :func:`prune`."""
    # The list of options, which the parser shows by itself, is left out.
    summary = str(prune.__doc__).partition("Args:")[0]
    parser = ArgumentParser(
        prog="python -m polyp_lightning prune", exit_on_error=False, allow_abbrev=False, description=summary
    )
    parser.add_function_arguments(prune)
    for action in parser._actions:
        if "--criterion" in action.option_strings:
            action.help = ", ".join(CRITERIA)
    return parser


@dataclass(frozen=True)
class _Cut:
    """A choice, to be shown or made."""

    run: LoadedRun
    graph: ChannelGraph
    importance: Importance
    removed: Removed

    def show(self, milliseconds: Cost | None) -> None:
        """Prints what would be cut."""
        # A pipe has no width of its own.
        console = Console(width=None if sys.stdout.isatty() else 140)
        found = preview(self.graph, self.importance, self.removed, milliseconds)
        console.print(build_preview_table(found, console.width))
        frozen = self.graph.why_frozen()
        if frozen:
            console.print(build_frozen_table(frozen))
        console.print("Predicted change: sum of the removed importances, in the criterion's unit. Nothing was written.")

    def make(self, recalibration_batches: int, goal: Path, facts: dict[str, str]) -> None:
        """Removes, recalibrates, and writes the checkpoint."""
        run, net = self.run, self.run.net
        dense, before = measure(net, run.image_size), run.val_dice()
        assert_exact(net, self.graph, self.removed, run.one_input())
        remove(net, self.graph, self.removed)
        dropped = drop_dead(net, self.graph)
        if recalibration_batches:
            update_bn(run.inputs(recalibration_batches), net)
            net.eval()
        now, after, size = measure(net, run.image_size), run.val_dice(), f"{run.image_size}²"
        write(run.checkpoint(facts), goal)
        named = ["--model.arch", run.trained.arch] if is_own(run.trained.arch) else []
        for line in (
            f"GMACs at {size}: {dense.gmacs:.3f} → {now.gmacs:.3f} ({now.gmacs / dense.gmacs:.1%})",
            f"parameters: {dense.params_total:,} → {now.params_total:,} ({len(dropped)} unused tensors dropped)",
            f"val Dice at {size}, without fine-tuning: {before:.4f} → {after:.4f}",
            f"Checkpoint: {goal}",
            f"Fine-tune it: {command('fit', '--model.init_from', goal.resolve(), '--pruning.target', '1', *named)}",
        ):
            show_text(line)


def _check_counts(**counts: tuple[int, int]) -> None:
    """Refuses a count, by its flag, that is below its least value."""
    for name, (value, least) in counts.items():
        if value < least:
            msg = f"--{name} {value} is too small: at least {least}"
            raise ConfigError(msg)
