"""The Dice-against-GMACs curve as a picture and as numbers, written so that no half file is ever seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyp_lightning.checkpoints.stages import CUT, END, StageRecord, dice_series
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.tables import write_table

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
    rows = ({**row.as_dict(), "filters": sum(row.widths.values())} for row in history)
    # The file's columns are named after Dice, the score that this project records.
    names = [name.replace("dice_", "score_") for name in CSV_COLUMNS]
    return write_table(Path(path), CSV_COLUMNS, ([row[name] for name in names] for row in rows))


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
    for row in history:
        if row.score_end is not None and row.score_after is not None:
            axes.plot([row.gmacs] * 2, [row.score_after, row.score_end], ":", color="0.6", linewidth=1, zorder=1)
    trained = {"marker": "o", "linestyle": "-", "color": _AFTER_TRAINING, "label": END, "zorder": 3}
    cut = {"marker": "s", "linestyle": "", "color": _AFTER_CUT, "label": CUT, "zorder": 2}
    draw_stages(axes, history, trained, cut, {"xytext": (0, 7)})
    axes.set_xlim(left=0.0)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    axes.set_xlabel("GMACs per image (training goes from right to left)")
    axes.set_ylabel("validation Dice at 0.5, network resolution")
    figure.suptitle("Dice against GMACs while pruning", fontsize=12)
    axes.set_title(caption, fontsize=8, wrap=True)
    with write_beside(path) as beside:
        figure.savefig(beside, format="png")
    return path


def draw_stages(
    axes: Axes,
    history: Sequence[StageRecord],
    trained: Mapping[str, Any],
    cut: Mapping[str, Any],
    label: Mapping[str, Any] | None,
) -> None:
    """Draws one run: filled points for the ends of its stages, hollow ones for the Dice right after a cut.

    Args:
        axes: to draw into.
        history: the run's stages.
        trained: Matplotlib's style of the filled points.
        cut: that of the hollow points.
        label: that of the shares of MACs written beside the filled points; None writes none.
    """
    series = dice_series(history)
    ends = series.get(END, [])
    axes.plot([x for x, _ in ends], [y for _, y in ends], **trained)
    if CUT in series:
        axes.plot(*zip(*series[CUT], strict=True), markerfacecolor="white", **cut)
    for row in history:
        if label is not None and row.score_end is not None:
            place = (row.gmacs, row.score_end)
            axes.annotate(f"{row.share:.0%}", place, textcoords="offset points", ha="center", fontsize=8, **label)
    axes.margins(0.08, 0.15)
