"""Draws methods at one target: Dice by method, which against MACs would be one vertical line."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from polyp_lightning.report.curves import group_by_line
from polyp_lightning.report.document import Picture
from polyp_lightning.report.numbers import spread
from polyp_lightning.report.plotting import make_literal, open_figure, tidy, to_picture
from polyp_lightning.study.replicates import DENSE, Replicates

_COLOUR = "#0072B2"
_ROW = 0.3
"""Inches of a row."""


def find_single_target(cells: Sequence[Replicates]) -> float | None:
    """Returns the target that all pruned networks share; None where there are none, or several targets."""
    targets = {cell.target for cell in cells if cell.method != DENSE}
    return targets.pop() if len(targets) == 1 else None


def draw_dice_by_method(cells: Sequence[Replicates], name: str, note: str) -> Picture:
    """Draws the test Dice of each method, one row each, the best mean first; the dense network as a dashed line.

    The cells are those of one setting, all pruned ones at one target.
    """
    groups = {
        label: cell for label, (cell, *_) in group_by_line([cell for cell in cells if cell.values("dice")]).items()
    }
    dense = {label: cell for label, cell in groups.items() if cell.method == DENSE}
    rows = {label: cell for label, cell in groups.items() if cell.method != DENSE}
    ranked = sorted(rows, key=lambda label: -rows[label].mean("dice"))
    with open_figure(8.2, 1.3 + _ROW * len(ranked)) as figure:
        axes = figure.add_subplot()
        for place, label in enumerate(ranked):
            _row(axes, place, rows[label])
        for label, cell in dense.items():
            _line(axes, label, cell)
        axes.set_yticks(
            range(len(ranked)), [f"{make_literal(label)} (n = {len(rows[label].rows)})" for label in ranked]
        )
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        tidy(axes, "test Dice, mean over images", "")
        return to_picture(figure, name, _words(ranked, groups), note)


def _row(axes: Axes, place: int, cell: Replicates) -> None:
    seeds = cell.values("dice")
    axes.plot(cell.mean("dice"), place, marker="|", markersize=15, markeredgewidth=2.4, color=_COLOUR)
    if len(seeds) > 1:
        axes.plot([min(seeds), max(seeds)], [place, place], color=_COLOUR, linewidth=0.8)
    # Hollow: seeds that lie on one another or on the mean stay visible.
    axes.plot(seeds, [place] * len(seeds), "o", markersize=4.5, color="black", markerfacecolor="none")


def _line(axes: Axes, label: str, cell: Replicates) -> None:
    mean = cell.mean("dice")
    axes.axvline(mean, color="black", linestyle="--", linewidth=1.1)
    above = blended_transform_factory(axes.transData, axes.transAxes)
    text = f"{make_literal(label)} (n = {len(cell.rows)})"
    # The dense network stands at the right edge in most studies.
    axes.text(mean, 1.01, text, transform=above, ha="right", va="bottom", fontsize=8)


def _words(ranked: Sequence[str], groups: dict[str, Replicates]) -> str:
    """Puts the picture's numbers into a sentence, for those who don't see it."""
    order = [*(label for label in groups if label not in ranked), *ranked]
    means = [f"{label} {spread(groups[label].mean('dice'), groups[label].deviation('dice'))}" for label in order]
    return f"Test Dice by method, the best first: {'; '.join(means)}."
