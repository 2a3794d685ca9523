"""The Dice-against-GMACs curve as a picture and as numbers, written so that no half file is ever seen."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.files import write_beside

# Okabe and Ito's blue and vermillion: told apart by colour-blind readers; shapes and fills tell them apart in grey.
_AFTER_TRAINING = "#0072B2"
_AFTER_CUT = "#D55E00"

CSV_COLUMNS = (
    "stage", "epoch", "gmacs", "share", "params", "filters", "removed",
    "dice_before", "dice_after", "dice_end", "dice_best",
)  # fmt: skip
"""Columns of ``pareto.csv``; ``filters`` is the sum over all blocks, and a cell is empty where there is no number."""


def pareto_csv(history: Sequence[StageRecord], path: str | Path) -> Path:
    """Writes one line per stage under the names of ``CSV_COLUMNS``, and returns the path."""
    path = Path(path)
    with write_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row.as_dict(), "filters": sum(row.widths.values())} for row in history)
    return path


def pareto_png(history: Sequence[StageRecord], path: str | Path, caption: str) -> Path:
    """Draws validation Dice against GMACs, one point per stage.

    Filled circles joined by a line: the last epoch of each stage, labelled with the share of the dense network's MACs.
    Hollow squares: right after the cut, before any further training. Stages without a score are left out.

    Args:
        history: the stages, the dense one first.
        path: the PNG to write.
        caption: data set, split and resolution, shown below the title.

    Returns:
        The path.
    """
    path = Path(path)
    figure = Figure(figsize=(7.0, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, history)
    axes.set_xlabel("GMACs per image (training goes from right to left)")
    axes.set_ylabel("validation Dice at 0.5, network resolution")
    figure.suptitle("Dice against GMACs while pruning", fontsize=12)
    axes.set_title(caption, fontsize=8, wrap=True)
    with write_beside(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _draw(axes: Axes, history: Sequence[StageRecord]) -> None:
    ends = [(row, row.dice_end) for row in history if row.dice_end is not None]
    cuts = [(row, row.dice_after) for row in history if row.dice_after is not None]
    for row in history:
        if row.dice_end is not None and row.dice_after is not None:
            axes.plot([row.gmacs] * 2, [row.dice_after, row.dice_end], ":", color="0.6", linewidth=1, zorder=1)
    axes.plot(
        [row.gmacs for row, _ in ends], [dice for _, dice in ends],
        "o-", color=_AFTER_TRAINING, label="end of the stage", zorder=3,
    )  # fmt: skip
    if cuts:
        axes.plot(
            [row.gmacs for row, _ in cuts], [dice for _, dice in cuts],
            "s", color=_AFTER_CUT, markerfacecolor="white", label="right after the cut", zorder=2,
        )  # fmt: skip
    for row, dice in ends:
        axes.annotate(
            f"{row.share:.0%}", (row.gmacs, dice), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    axes.margins(0.08, 0.15)
    axes.set_xlim(left=0.0)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
