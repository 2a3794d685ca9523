"""The Dice-against-GMACs curve as a picture and as numbers, written so that no half file is ever seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.transforms import Affine2D, Bbox

from polyp_lightning.checkpoints.stages import CUT, END, StageRecord, dice_series
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.tables import read_table, write_table

_IN_TIME = "Stages follow in time: a rise is training. What pruning costs shows beside a dense run of equal length."
_LINE = 112
# Points (1/72 inch): what a marker, and a letter of a label, take.
_MARK, _LETTER, _HEIGHT = 10.0, 5.2, 9.0
# Where a label may be, the best first: beside its marker in half widths, above or below in heights.
_PLACES = ((0, 1), (0, -1), (1.1, 0), (-1.1, 0), (1.1, 0.8), (-1.1, 0.8), (1.1, -0.8), (-1.1, -0.8))

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


def read_pareto_csv(path: Path) -> list[StageRecord]:
    """Reads the stages of a ``pareto.csv``, without their widths.

    Raises:
        ConfigError: it is no such table.
    """
    try:
        return [_stage(row) for row in read_table(path)[1]]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is no table of stages ({error}); remove it, or name another run"
        raise ConfigError(msg) from error


def _stage(row: Mapping[str, str]) -> StageRecord:
    record = StageRecord(
        stage=int(row["stage"]),
        epoch=int(row["epoch"]),
        gmacs=float(row["gmacs"]),
        share=float(row["share"]),
        params=int(row["params"]),
        widths={},
        layers={},
        removed=int(row["removed"]),
    )
    for key in row:
        if key.startswith("dice_"):
            setattr(record, key.replace("dice_", "score_"), float(row[key]) if row[key] else None)
    return record


def pareto_png(history: Sequence[StageRecord], path: str | Path, caption: str, dense_dice: float | None = None) -> Path:
    """Draws validation Dice against GMACs, one point per stage.

    Filled circles joined by a line: the last epoch of each stage, labelled with the share of the dense network's MACs.
    Hollow squares: right after the cut, before any further training. Stages without a score are left out. Dashed:
    a dense network after equal training.

    Args:
        history: the stages, the dense one first.
        path: the PNG to write.
        caption: data set, split and resolution, shown below the title.
        dense_dice: of a dense run of equal training; None where there is none.

    Returns:
        The path.
    """
    path = Path(path)
    # Wrapped here: the layout would leave room for one line only of what Matplotlib wraps.
    about = _IN_TIME if len(history) > 1 and dense_dice is None else ""
    lines = [line for text in (caption, about) for line in wrap(text, _LINE)]
    figure = Figure(figsize=(7.0, 4.6 + 0.15 * max(0, len(lines) - 3)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for row in history:
        if row.score_end is not None and row.score_after is not None:
            axes.plot([row.gmacs] * 2, [row.score_after, row.score_end], ":", color="0.6", linewidth=1, zorder=1)
    trained = {"marker": "o", "linestyle": "-", "color": _AFTER_TRAINING, "label": END, "zorder": 3}
    cut = {"marker": "s", "linestyle": "", "color": _AFTER_CUT, "label": CUT, "zorder": 2}
    draw_stages(axes, history, trained, cut)
    if dense_dice is not None:
        axes.axhline(
            dense_dice, color="0.3", linestyle="--", linewidth=1.2, label=f"dense, trained as long: {dense_dice:.3f}"
        )
    axes.set_xlim(left=0.0)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    axes.set_xlabel("GMACs per image (training goes from right to left)")
    axes.set_ylabel("validation Dice at 0.5, network resolution")
    figure.suptitle("Dice against GMACs while pruning", fontsize=12)
    axes.set_title("\n".join(lines), fontsize=8)
    label_shares(axes, history)
    with write_beside(path) as beside:
        figure.savefig(beside, format="png")
    return path


def draw_stages(axes: Axes, history: Sequence[StageRecord], trained: Mapping[str, Any], cut: Mapping[str, Any]) -> None:
    """Draws one run: filled points for the ends of its stages, hollow ones for the Dice right after a cut.

    Args:
        axes: to draw into.
        history: the run's stages.
        trained: Matplotlib's style of the filled points.
        cut: that of the hollow points.
    """
    series = dice_series(history)
    ends = series.get(END, [])
    axes.plot([x for x, _ in ends], [y for _, y in ends], **trained)
    if CUT in series:
        axes.plot(*zip(*series[CUT], strict=True), markerfacecolor="white", **cut)
    axes.margins(0.08, 0.15)


def label_shares(axes: Axes, history: Sequence[StageRecord], **style: Any) -> None:
    """Writes the share of the dense network's MACs beside each end of a stage, where it covers least.

    The dense stage also says how many epochs it had: as a rule far fewer than the run. Comes last, when limits and
    layout are decided.
    """
    figure = axes.figure.get_figure(root=True)
    figure.draw_without_rendering()
    series = dice_series(history)
    ends, cuts = (_to_points(axes, series.get(name, [])) for name in (END, CUT))
    line = Line(ends) if len(ends) > 1 else None
    taken = [_box(*point, _MARK, _MARK) for point in (*ends, *cuts)]
    frame = axes.get_window_extent().transformed(Affine2D().scale(72 / figure.dpi))
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent().transformed(Affine2D().scale(72 / figure.dpi)))
    scored = [row for row in history if row.score_end is not None]
    for row, (x, y) in zip(scored, ends, strict=True):
        dense_epochs = scored[1].epoch if row is scored[0] and len(scored) > 1 else 0
        text = f"{row.share:.0%}" + (f", {dense_epochs} epochs" if dense_epochs else "")
        width = _LETTER * len(text)

        def covers(place: tuple[float, float], x: float = x, y: float = y, width: float = width) -> int:
            box = _box(x + place[0] * (width + _MARK) / 2, y + place[1] * _MARK, width, _HEIGHT)
            outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
            crossed = line is not None and line.intersects_bbox(box, filled=False)
            return 3 * box.count_overlaps(taken) + 3 * outside + crossed

        right, up = min(_PLACES, key=covers)
        offset = (right * (width + _MARK) / 2, up * _MARK)
        taken.append(_box(x + offset[0], y + offset[1], width, _HEIGHT))
        place = (row.gmacs, float(row.score_end or 0.0))
        centred: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
        axes.annotate(text, place, xytext=offset, **centred, **style)


def _to_points(axes: Axes, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where places in data coordinates are drawn, in points (1/72 inch)."""
    scale = 72 / axes.figure.get_figure(root=True).dpi
    return [(x * scale, y * scale) for x, y in axes.transData.transform(places)] if places else []


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    """A box around its middle."""
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
