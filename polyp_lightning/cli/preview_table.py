"""Builds the table of what a cut would do."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from polyp_lightning.checkpoints.stages import join_layers
from polyp_lightning.pruning.budget import Preview
from polyp_lightning.pruning.graph import FrozenLayer, group_by_cause

# Lengths of the bar, the first that leaves room for the names.
_BARS = (12, 6, 0)
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def build_preview_table(preview: Preview, width: int) -> Table:
    """Builds the table for a terminal of so many columns, with a bar for the share of each layer that stays.

    Names of layers stay whole: where they leave no room for it, the bar is shorter or missing.
    """
    for bar in _BARS:
        table = _build_preview_table(preview, bar)
        if Console(width=1000).measure(table).maximum <= width:
            break
    return table


def _build_preview_table(preview: Preview, bar: int) -> Table:
    table = Table(title="What would be cut", show_footer=True, box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("layer", footer="total", no_wrap=True)
    if bar:
        table.add_column("kept", no_wrap=True)
    before, after = sum(row.before for row in preview.rows), sum(row.after for row in preview.rows)
    table.add_column("filters", justify="right", footer=f"{before} → {after}", no_wrap=True)
    table.add_column("predicted\nchange", justify="right", footer=f"{preview.loss:.3g}", no_wrap=True)
    for unit, now, then in zip(preview.units, preview.before, preview.after, strict=True):
        share = f"\n{then / now:.0%}" if now else ""
        total = f"of {_format(now)}\nto {_format(then)}{share}"
        table.add_column(f"{unit}\nsaved", justify="right", footer=total, no_wrap=True)
    for row in preview.rows:
        cells = [_format(value) if value else "" for value in row.saved]
        loss = f"{row.loss:.3g}" if row.after < row.before else ""
        drawn = [draw_bar(row.after / row.before, bar)] if bar else []
        table.add_row(row.name, *drawn, f"{row.before} → {row.after}", loss, *cells)
    return table


def build_frozen_table(layers: Sequence[FrozenLayer]) -> Table:
    """Builds the table of filters that no cut takes, by their cause, those of most filters first."""
    table = Table(title="What can't be cut, and why")
    table.add_column("filters", justify="right", no_wrap=True)
    table.add_column("layers", no_wrap=True)
    table.add_column("because of", overflow="fold")
    for cause, found in group_by_cause(layers).items():
        names = join_layers([layer.layer for layer in found])
        table.add_row(str(sum(layer.frozen for layer in found)), names, str(cause))
    return table


def draw_bar(share: float, length: int) -> str:
    """Draws a share in [0, 1] as blocks.

    >>> draw_bar(0.5, 4), draw_bar(0.28, 4), draw_bar(1, 4)
    ('██··', '█▏··', '████')
    """
    eighths = round(share * length * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "") + "·" * (length - full - bool(rest))


def _format(value: float) -> str:
    """Writes three digits with a prefix."""
    scales: Sequence[tuple[float, str]] = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
    for scale, prefix in scales:
        if abs(value) >= scale:
            return f"{value / scale:.3g}{prefix}"
    return f"{value:.3g}"
