"""Predicted against measured change of the loss, as one picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from polyp_lightning.files import written_beside
from polyp_lightning.study.loss_changes import Correlation, SetPoint, Values

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
    in_units_of_loss: str,
) -> None:
    """Writes the PNG.

    One panel for each criterion: what it says of a component against the measured change of the loss when that
    component alone is removed. Below them, growing sets: the measured change by criterion against the share of MACs
    removed, and predicted against measured for the criterion that predicts in units of the loss.

    Args:
        path: the PNG.
        caption: network, data and number of images.
        predicted: by criterion, (components,).
        changes: (components, N), as measured.
        correlations: by criterion.
        sets: by criterion.
        in_units_of_loss: the criterion of which the last panel is.
    """
    rows = -(-len(predicted) // _COLUMNS)
    figure = Figure(figsize=(2.7 * _COLUMNS, 2.45 * rows + 3.6), dpi=130, layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[*[1.0] * rows, 1.35])
    measured = changes.mean(1)
    for number, (name, values) in enumerate(predicted.items()):
        axes = figure.add_subplot(grid[number // _COLUMNS, number % _COLUMNS])
        _components(axes, name, values, measured, correlations[name], identity=name == in_units_of_loss)
        if number % _COLUMNS == 0:
            axes.set_ylabel("measured change of loss", fontsize=8)
    _sets(figure, grid, sets, in_units_of_loss)
    figure.suptitle("Predicted against measured change of the loss when components are removed", fontsize=13)
    figure.supxlabel(caption, fontsize=8)
    with written_beside(path) as beside:
        figure.savefig(beside, format="png")


def _components(axes: Axes, name: str, values: Values, measured: Values, rho: Correlation, *, identity: bool) -> None:
    axes.plot(values, measured, linestyle="", marker="o", markersize=3, alpha=0.55, color=_BLUE, markeredgewidth=0)
    axes.axhline(0, color=_GREY, linewidth=0.6)
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
    axes.set_title(f"{name}\nρ = {rho.signed:.2f}  (of size: {rho.absolute:.2f})", fontsize=8.5)
    axes.tick_params(labelsize=6)


def _spread(set_scale: Callable[..., None], values: Values) -> float:
    """Sets a scale on which the many small values and the few large ones are both seen.

    Returns:
        Up to which size it is linear; 0 where it is not linear at all, or everywhere.
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


def _sets(figure: Figure, grid: GridSpec, sets: Mapping[str, Sequence[SetPoint]], in_units_of_loss: str) -> None:
    axes = figure.add_subplot(grid[-1, :3])
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
    # Beside the lines, of which there are many.
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _predicted_sets(figure.add_subplot(grid[-1, 3:]), sets[in_units_of_loss], in_units_of_loss)


def _predicted_sets(axes: Axes, points: Sequence[SetPoint], name: str) -> None:
    shares = [100 * point.macs for point in points]
    axes.plot(shares, [p.measured for p in points], color=_COLOURS[1], marker="s", markersize=4, label="measured")
    predicted = [p.predicted for p in points]
    axes.plot(
        shares, predicted, color=_BLUE, marker="o", markersize=4, linestyle="--", label="predicted: sum of changes"
    )
    axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set_xlabel("% of MACs removed", fontsize=8)
    axes.set_title(f"growing sets by {name}", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
