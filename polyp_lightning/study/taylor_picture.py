"""Predicted against measured change of the loss, as one picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyp_lightning.common.files import write_beside
from polyp_lightning.study.loss_changes import Correlation, SetPoint, Values

IN_UNITS_OF_LOSS = "taylor signed, not normalised"
"""The criterion whose importances are changes of the loss."""

_SUMMED = "taylor"
"""The criterion for whose growing sets the sum of predicted changes is drawn."""

_COLUMNS = 5
_BLUE, _GREY = "#0072B2", "#555555"
# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes tell lines apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#777777")
_MARKERS = "osD^vP*X"
_DASHES = ("-", "--", "-.", ":")


def draw(
    path: Path,
    caption: str,
    predicted: Mapping[str, Values],
    changes: Values,
    correlations: Mapping[str, Correlation],
    sets: Mapping[str, Sequence[SetPoint]],
) -> None:
    """Writes the PNG.

    One panel for each criterion: what it says of a component against what is measured when that component alone is
    removed. That is the mean change of the loss for the criterion in units of the loss, and for the others, which
    predict a size, the mean size of the change. Below them, growing sets: the measured change by criterion against the
    share of MACs removed; and for one criterion's sets, measured against the sum of predicted changes.

    ``predicted`` is (components,) by criterion, ``changes`` (components, N) as measured.
    """
    rows = -(-len(predicted) // _COLUMNS)
    figure = Figure(figsize=(2.7 * _COLUMNS, 2.45 * rows + 3.6), dpi=130, layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[*[1.0] * rows, 1.35])
    change, size = changes.mean(1), np.abs(changes).mean(1)
    for number, (name, values) in enumerate(predicted.items()):
        axes = figure.add_subplot(grid[number // _COLUMNS, number % _COLUMNS])
        rho = correlations[name]
        if name == IN_UNITS_OF_LOSS:
            _components(axes, f"{name}\nchange of the loss, ρ = {rho.signed:.3f}", values, change, identity=True)
        else:
            _components(axes, f"{name}\nsize of the change, ρ = {rho.absolute:.3f}", values, size, identity=False)
        if number % _COLUMNS == 0:
            axes.set_ylabel("measured", fontsize=8)
    lines = figure.add_subplot(grid[-1, :3])
    _sets(lines, sets)
    # Many lines: their names fill the cells that the criteria leave empty, or cover some of the lines.
    used = len(predicted) % _COLUMNS
    place = figure.add_subplot(grid[rows - 1, used:]) if used else lines
    if used:
        place.axis("off")
    handles, labels = lines.get_legend_handles_labels()
    place.legend(handles, labels, ncols=2, fontsize=8, frameon=False, loc="center", title="growing sets, ordered by")
    _predicted_sets(figure.add_subplot(grid[-1, 3:]), sets[_SUMMED], _SUMMED)
    figure.suptitle("Predicted against measured change of the loss when components are removed", fontsize=13)
    figure.supxlabel(caption, fontsize=8)
    with write_beside(path) as beside:
        figure.savefig(beside, format="png")


def _components(axes: Axes, title: str, values: Values, measured: Values, *, identity: bool) -> None:
    axes.plot(values, measured, linestyle="", marker="o", markersize=3, alpha=0.55, color=_BLUE, markeredgewidth=0)
    axes.ticklabel_format(useOffset=False)
    axes.margins(0.07)
    linear = _spread(axes.set_xscale, values), _spread(axes.set_yscale, measured)
    if identity:
        # On these scales a straight line between two points is not the diagonal.
        ends = min(values.min(), measured.min()), max(values.max(), measured.max())
        line = np.sort(np.concatenate([np.linspace(*ends, 500), np.linspace(-1, 1, 501) * 10 * max(linear)]))
        line = line[(line >= ends[0]) & (line <= ends[1])]
        axes.plot(line, line, color=_GREY, linewidth=0.8, linestyle="--", label="equal")
        axes.legend(fontsize=7, frameon=False, loc="lower right")
        axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set_title(title, fontsize=8.5)
    axes.tick_params(labelsize=6)


def _spread(set_scale: Callable[..., None], values: Values) -> float:
    """Sets a scale on which the many small values and the few large ones are both seen.

    Returns up to which size it is linear; 0 where it is not linear at all, or everywhere.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(sizes) or sizes.max() / np.median(sizes) < 10:
        return 0.0
    if (values > 0).all():
        set_scale("log")
        return 0.0
    linear = float(10 ** np.floor(np.log10(np.median(sizes))))
    set_scale("symlog", linthresh=linear)
    return linear


def _sets(axes: Axes, sets: Mapping[str, Sequence[SetPoint]]) -> None:
    for number, (name, points) in enumerate(sets.items()):
        axes.plot(
            [100 * point.macs for point in points],
            [point.measured for point in points],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[(number + 3 * (number // len(_MARKERS))) % len(_MARKERS)],
            linestyle=_DASHES[number % len(_DASHES)],
            markersize=4.5,
            linewidth=1.2,
            label=name,
        )
    axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set_xlabel("% of MACs removed, the least important components first", fontsize=8)
    axes.set_ylabel("measured change of loss", fontsize=8)
    axes.set_title("growing sets, without training in between", fontsize=9)
    axes.tick_params(labelsize=7)
    # The small changes are those that matter when a share of the network is to go.
    axes.set_yscale("symlog", linthresh=0.01)


def _predicted_sets(axes: Axes, points: Sequence[SetPoint], name: str) -> None:
    shares = [100 * point.macs for point in points]
    axes.plot(shares, [p.measured for p in points], color=_COLOURS[1], marker="s", markersize=4, label="measured")
    predicted = [p.predicted for p in points]
    axes.plot(
        shares, predicted, color=_BLUE, marker="o", markersize=4, linestyle="--", label="predicted: sum of changes"
    )
    axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_xlabel("% of MACs removed", fontsize=8)
    axes.set_title(f"growing sets by {name}: the sum of predicted changes", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
