"""The table of test scores that papers print: one row for each network and test set."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

MEASURES = {
    "dice": ("Dice", "mDice"),
    "iou": ("IoU", "mIoU"),
    "weighted_f": ("wF", r"$F_\beta^w$"),
    "structure": ("S", r"$S_\alpha$"),
    "e_measure": ("mean E", r"$E_\phi$"),
    "e_measure_max": ("max E", r"$E_\phi^{\max}$"),
    "mae": ("MAE", "MAE"),
    "precision": ("precision", "Precision"),
    "recall": ("recall", "Recall"),
}
"""What is printed of :func:`~polyp_lightning.metrics.evaluation_metrics`: headings on a screen and in LaTeX."""

CAPTION = (
    "Means over images at their original size. Dice, IoU, precision and recall at 0.5; the others of maps stretched to "
    "span 0 to 1, as PraNet's evaluation has them; max E at the threshold that is best for these images."
)


def build_score_table(rows: Sequence[tuple[Sequence[str], Mapping[str, str]]], head: Sequence[str]) -> Table:
    """Builds the table for a terminal: of each row its names, under ``head``, and its values by measure."""
    table = Table(title="Test scores", title_justify="left", caption=CAPTION, caption_justify="left")
    table.box, table.padding = box.SIMPLE_HEAD, (0, 1, 0, 0)
    for name in head:
        table.add_column(name, no_wrap=name != "network")
    for screen, _ in MEASURES.values():
        table.add_column(screen, justify="right", no_wrap=True)
    for names, values in rows:
        table.add_row(*names, *(values.get(key, "–") for key in MEASURES))
    return table
