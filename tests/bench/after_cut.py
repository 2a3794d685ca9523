"""What a network is worth right after a cut, before any training: ``after_cut.py runs/study-curve``.

Each parent of a study of the curve is cut in one step, by this project's criteria and by Torch-Pruning. Dice is that of
the validation images at network resolution: as cut, and with batch norm's statistics renewed on 8 batches, which all
methods get alike. Columns are means over the parents.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table
from rivals import CannotCutError, bring_back, count_macs, cut_by_torch_pruning
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from polyp_lightning.checkpoints.run_folder import best_checkpoint
from polyp_lightning.networks.complexity import measure
from polyp_lightning.pruning import remove, select, trace
from polyp_lightning.pruning.criteria import build_criterion
from polyp_lightning.training.loaded_run import LoadedRun, load_run

TARGETS = (0.5, 0.25, 0.08)
SCORED, RENEWED = 16, 8
"""Batches of training images."""

Cut = Callable[[LoadedRun, float], None]


def cut_by_criterion(name: str, run: LoadedRun, target: float) -> None:
    """Removes from the run's network what a criterion of this project chooses."""
    graph = trace(run.net, (2, 3, run.image_size, run.image_size))
    criterion = build_criterion(name)
    criterion.gather(run.net, graph, run.inputs_and_masks(SCORED), run.loss)
    remove(run.net, graph, select(graph, criterion.importance(run.net, graph), target))


def cut_by_peer(importance: str, ranking: str, run: LoadedRun, target: float) -> None:
    """Cuts the run's network as Torch-Pruning does."""
    macs, batches = target * count_macs(run.net, run.image_size), list(run.inputs_and_masks(SCORED))
    bring_back(run.net, cut_by_torch_pruning(run.net, importance, ranking, macs, run.image_size, batches, run.loss))
    run.net.eval()


OWN = ("taylor", "taylor_weight", "magnitude_l1", "uniform", "random")
METHODS: dict[str, Cut] = {name: partial(cut_by_criterion, name) for name in OWN} | {
    "tp_taylor": partial(cut_by_peer, "taylor", "global"),
    "tp_taylor_local": partial(cut_by_peer, "taylor", "local"),
    "tp_taylor_iso": partial(cut_by_peer, "taylor", "isomorphic"),
    "tp_hessian": partial(cut_by_peer, "hessian", "global"),
    "tp_magnitude": partial(cut_by_peer, "magnitude", "global"),
}


def measure_cut(parent: Path, cut: Cut, target: float) -> tuple[float, float, float]:
    """Returns the share of the MACs that is left, Dice as cut, and Dice with new statistics."""
    torch.manual_seed(0)
    run = load_run(best_checkpoint(parent), os.environ.get("POLYP_DATA"), 8)
    dense = measure(run.net, run.image_size).gmacs
    cut(run, target)
    before = run.val_dice()
    update_bn(run.inputs(RENEWED), run.net)
    run.net.eval()
    return measure(run.net, run.image_size).gmacs / dense, before, run.val_dice()


def measure_all(parents: Sequence[Path]) -> Iterator[tuple[str, float, tuple[float, float, float]]]:
    """Yields method, target and what was measured, of every cut of every parent that the method can make."""
    cuts = [(parent, name, target) for parent in parents for name in METHODS for target in TARGETS]
    for parent, name, target in tqdm(cuts, "cuts", disable=not sys.stderr.isatty()):
        try:
            yield name, target, measure_cut(parent, METHODS[name], target)
        except CannotCutError as error:
            tqdm.write(str(error), sys.stderr)


def describe_cuts(measured: Sequence[tuple[float, float, float]], parents: int) -> str:
    """Describes one cell of the table, and of how many of the parents, if not of all."""
    if not measured:
        return "can't"
    share, before, after = (fmean(column) for column in zip(*measured, strict=True))
    some = "" if len(measured) == parents else f", {len(measured)} of {parents}"
    return f"{before:.3f} → {after:.3f} (at {share:.0%}{some})"


def main(args: Sequence[str] | None = None) -> int:
    """Prints the table of a study's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder of a study with parents")
    parents = sorted((parser.parse_args(args).study / "runs").glob("*_parent_s*"))
    if not parents:
        parser.error("there is no parent below runs/")
    found = defaultdict(list)
    for name, target, measured in measure_all(parents):
        found[name, target].append(measured)
    lines = Table(title=f"Validation Dice right after one cut, as cut → with new statistics, {len(parents)} networks")
    for heading in ("method", *(f"{target:.0%}" for target in TARGETS)):
        lines.add_column(heading)
    for name in METHODS:
        lines.add_row(name, *(describe_cuts(found[name, target], len(parents)) for target in TARGETS))
    Console(width=None if sys.stdout.isatty() else 120).print(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
