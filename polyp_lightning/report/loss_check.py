"""The result of ``taylor-check`` in a report: predicted against measured change of the loss."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.tables import read_table
from polyp_lightning.report.document import Block, Commands, Paragraph, Picture, Table
from polyp_lightning.report.numbers import number
from polyp_lightning.report.plotting import add_legend, choose_looks, open_figure, tidy, to_picture

_COLUMNS = ("criterion", "components", "macs_removed", "change", "predicted_change")
_CHECKED = "taylor"

CHECK = "Predicted against measured change of the loss"
"""The title of the section."""


def find_check(folder: Path) -> Path | None:
    """Finds the folder of a check: the run's own, or one directly in it."""
    found = [path.parent for path in (*folder.glob("sets.csv"), *sorted(folder.glob("*/sets.csv")))]
    return next((one for one in found if (one / "correlations.csv").is_file()), None)


def explain_check(checkpoint: Path, folder: Path) -> list[Block]:
    """Says how to make a check of a dense network, where a report looks for it, if there is none."""
    command = [
        "python -m polyp_lightning taylor-check \\",
        f"    --ckpt_path {shlex.quote(str(checkpoint))} \\",
        f"    --output {shlex.quote(str(folder / 'taylor-check'))}",
    ]
    return [Paragraph("Not measured yet. This does so, in minutes; the next report shows it:"), Commands(command)]


def show_check(folder: Path, name: str) -> list[Block]:
    """Shows the table and the drawing of a check."""
    try:
        rho = _rows(folder / "correlations.csv", ("criterion", "rho", "rho_of_size"))
        sets = _rows(folder / "sets.csv", _COLUMNS)
        ranked = sorted(rho, key=lambda row: -_best(row))
        cells = [[row["criterion"], number(float(row["rho"])), number(float(row["rho_of_size"]))] for row in ranked]
        drawn = _sets(sets, name)
    except (ValueError, TypeError) as error:
        msg = f"{folder} holds a damaged check of the scores ({error}); run taylor-check again"
        raise DataError(msg) from error
    text = (
        "Components are removed one by one and in growing sets, without training in between, and the loss is measured "
        "on validation images. Spearman's ρ says how well a criterion ranks single components."
    )
    caption = "Spearman's ρ with the mean change of the loss, and with the mean of its size; the best first."
    return [Paragraph(text), drawn, Table(["criterion", "change", "its size"], cells, caption)]


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    header, rows = read_table(path)
    missing = [name for name in columns if rows and name not in header]
    if missing:
        msg = f"{path.name} lacks {', '.join(missing)}"
        raise ValueError(msg)
    return rows


def _best(row: Mapping[str, str]) -> float:
    values = [value for value in (float(row["rho"]), float(row["rho_of_size"])) if not math.isnan(value)]
    return max(values, default=-1.0)


def _sets(rows: Sequence[Mapping[str, str]], name: str) -> Picture:
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["criterion"], []).append(row)
    with open_figure(8.2, 4.4) as figure:
        axes = figure.add_subplot()
        for criterion, look in choose_looks(list(groups)).items():
            own = groups[criterion]
            share = [100 * float(row["macs_removed"]) for row in own]
            style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "markersize": 4}
            axes.plot(share, [float(row["change"]) for row in own], label=criterion, linewidth=1.2, **style)  # type: ignore[arg-type]
            if criterion == _CHECKED:
                predicted = [float(row["predicted_change"]) for row in own]
                label = f"{criterion}: predicted, the sum"
                axes.plot(share, predicted, label=label, color="0.3", linestyle=":", linewidth=1.8)
        tidy(axes, "% of MACs removed, the least important components first", "change of the loss")
        # The small changes are those that matter when a share of the network is to go.
        axes.set_yscale("symlog", linthresh=0.01)
        add_legend(axes)
        caption = f"Growing sets of the least important components; dotted: what {_CHECKED} predicts for its own sets."
        return to_picture(figure, name, _words(groups), caption)


def _words(groups: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    ends = [f"{name} {number(float(rows[-1]['change']), 2)}" for name, rows in groups.items()]
    return "Measured change of the loss against the share of MACs removed. At the largest set: " + ", ".join(ends) + "."
