"""Drawings of what is gained and lost: Dice against MACs and time, by method or by run."""

import math
from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from polyp_lightning.callbacks.picture import draw_stages, label_shares
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.report.document import Picture
from polyp_lightning.report.numbers import number, percent
from polyp_lightning.report.plotting import Look, add_legend, choose_looks, make_literal, open_figure, tidy, to_picture
from polyp_lightning.study.replicates import DENSE, Replicates


def draw_dice_against(cost: str, unit: str, cells: Sequence[Replicates], name: str, note: str) -> Picture:
    """Draws the test Dice of each method against a cost, with mean ± one standard deviation over seeds.

    The cost is a column of the results, ``gmacs`` or ``ms``, and ``unit`` what it is in words; the cells are of one
    setting.
    """
    groups = group_by_line(
        [cell for cell in cells if not math.isnan(cell.mean(cost)) and not math.isnan(cell.mean("dice"))]
    )
    with open_figure(8.2, 4.4) as figure:
        axes = figure.add_subplot()
        for method, look in choose_looks(list(groups)).items():
            _series(axes, method, look, sorted(groups[method], key=lambda cell: cell.mean(cost)), cost)
        tidy(axes, unit, "test Dice, mean over images")
        _frame(axes)
        add_legend(axes)
        return to_picture(figure, name, _words(groups, cost, unit), note)


def _frame(axes: Axes) -> None:
    """Sets the axes: from zero cost, and at least 0.05 of Dice high, or the third decimal would look like a cliff."""
    axes.set_xlim(0.0, 1.03 * axes.get_xlim()[1])
    low, high = axes.get_ylim()
    missing = max(0.0, 0.05 - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)


def group_by_line(cells: Sequence[Replicates]) -> dict[str, list[Replicates]]:
    """Groups the cells into lines: by method, and by epochs where they differ."""
    epochs: dict[str, set[int]] = {}
    for cell in cells:
        epochs.setdefault(cell.method, set()).add(cell.epochs)
    groups: dict[str, list[Replicates]] = {}
    for cell in cells:
        several = f", {cell.epochs} epochs" if len(epochs[cell.method]) > 1 else ""
        groups.setdefault(cell.method + several, []).append(cell)
    return groups


def _series(axes: Axes, method: str, look: Look, own: Sequence[Replicates], cost: str) -> None:
    x, y = [cell.mean(cost) for cell in own], [cell.mean("dice") for cell in own]
    half = [0.0 if math.isnan(sd := cell.deviation("dice")) else sd for cell in own]
    if own[0].method == DENSE:
        axes.axhline(max(y), color=look.colour, linewidth=0.7, linestyle=":")
    label = f"{make_literal(method)} (n = {_counts(own)})"
    axes.plot(
        x, y, color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, linewidth=1.3, label=label
    )
    if any(half):
        low = [value - sd for value, sd in zip(y, half, strict=True)]
        high = [value + sd for value, sd in zip(y, half, strict=True)]
        axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
        axes.errorbar(x, y, half, color=look.colour, linestyle="", linewidth=0.8, capsize=2.5)


def _counts(own: Sequence[Replicates]) -> str:
    counts = sorted({len(cell.rows) for cell in own})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _words(groups: dict[str, list[Replicates]], cost: str, unit: str) -> str:
    """Puts the picture's numbers into a sentence, for those who don't see it."""
    lines = []
    for method, own in groups.items():
        ends = sorted(own, key=lambda cell: cell.mean(cost))
        low, high = ends[0], ends[-1]
        text = f"{method}: {number(low.mean('dice'))} at {number(low.mean(cost), 2)}"
        lines.append(text + (f" to {number(high.mean('dice'))} at {number(high.mean(cost), 2)}" if low != high else ""))
    return f"Test Dice against {unit}. " + "; ".join(lines) + "."


def draw_runs(runs: Mapping[str, Sequence[StageRecord]], name: str, controls: Collection[str] = ()) -> Picture:
    """Draws validation Dice against GMACs, one line for each run, one point for the end of each stage.

    Hollow points: right after a cut, before any training. A dashed line goes all the way from the end of each dense run
    in ``controls``, which was trained as long as a pruned one.
    """
    with open_figure(8.2, 4.4) as figure:
        axes = figure.add_subplot()
        for run, look in choose_looks(list(runs)).items():
            cut = {"color": look.colour, "marker": look.marker, "markersize": 5, "linestyle": ""}
            trained = {**cut, "linestyle": look.dash, "linewidth": 1.3, "label": make_literal(run)}
            draw_stages(axes, runs[run], trained, cut)
            if run in controls and (end := runs[run][-1].score_end) is not None:
                axes.axhline(end, color=look.colour, linewidth=1.0, linestyle="--")
        tidy(axes, "GMACs per image (training goes from right to left)", "validation Dice, network resolution")
        _frame(axes)
        if len(runs) > 1:
            add_legend(axes)
        else:
            # White around the letters where a steep line passes.
            white = [withStroke(linewidth=3, foreground="white")]
            label_shares(axes, next(iter(runs.values())), path_effects=white, zorder=5)
        caption = "Filled: the end of a stage. Hollow: right after a cut, before any training." + (
            " Dashed: a dense network after equal training."
            if controls
            else " Stages follow one another in time: a rise from right to left is training, not pruning."
        )
        return to_picture(figure, name, _stage_words(runs), caption)


def _stage_words(runs: Mapping[str, Sequence[StageRecord]]) -> str:
    lines = []
    for run, stages in runs.items():
        points = [f"{number(row.score_end)} at {percent(row.share)}" for row in stages if row.score_end is not None]
        lines.append(f"{run}: " + ", ".join(points))
    return "Validation Dice against GMACs by stage, as shares of the dense network's MACs. " + "; ".join(lines) + "."


def draw_widths(dense: StageRecord, pruned: StageRecord, name: str) -> Picture:
    """Draws the filters of every convolution, dense against pruned, in the network's order."""
    layers = list(dense.layers)
    before = [dense.layers[layer] for layer in layers]
    after = [pruned.layers.get(layer, 0) for layer in layers]
    with open_figure(8.2, max(3.0, 0.16 * len(layers) + 1.2)) as figure:
        axes = figure.add_subplot()
        places = range(len(layers))
        axes.barh(places, before, color="0.88", edgecolor="0.6", linewidth=0.6, label="dense")
        axes.barh(places, after, height=0.5, color=choose_looks(["kept"])["kept"].colour, label="kept")
        axes.set_yticks(places, [make_literal(layer) for layer in layers], fontsize=6)
        axes.set_ylim(len(layers) - 0.4, -0.6)
        tidy(axes, "output filters", "")
        axes.legend(loc="lower right", fontsize=8)
        kept = sum(after) / max(sum(before), 1)
        least = min(layers, key=lambda layer: pruned.layers.get(layer, 0) / dense.layers[layer])
        alt = (
            f"Output filters of {len(layers)} convolutions, dense against pruned: {percent(kept)} of all filters stay; "
            f"least of {least}, {pruned.layers.get(least, 0)} of {dense.layers[least]}."
        )
        caption = f"At {percent(pruned.share)} of the dense MACs. Pale: dense. Dark: kept."
        return to_picture(figure, name, alt, caption)
