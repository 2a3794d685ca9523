"""What a cut would do, as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from polyp_lightning.pruning.budget import Preview

_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def preview_table(of: Preview, title: str = "What would be cut") -> Table:
    """The preview for the terminal, with a bar for the share of each layer that stays."""
    table = Table(title=title, show_footer=True)
    table.add_column("layer", footer="total", overflow="fold")
    table.add_column("kept", footer="")
    before, after = sum(row.before for row in of.rows), sum(row.after for row in of.rows)
    table.add_column("filters", justify="right", footer=f"{before} → {after}", no_wrap=True)
    table.add_column("predicted change", justify="right", footer=f"{of.loss:.3g}")
    for unit, now, then in zip(of.units, of.before, of.after, strict=True):
        share = f" ({then / now:.0%})" if now else ""
        table.add_column(f"{unit} saved", justify="right", footer=f"{_short(now)} → {_short(then)}{share}")
    for row in of.rows:
        cells = [_short(value) if value else "" for value in row.saved]
        loss = f"{row.loss:.3g}" if row.after < row.before else ""
        table.add_row(row.name, bar(row.after / row.before), f"{row.before} → {row.after}", loss, *cells)
    return table


def bar(share: float, length: int = _BAR) -> str:
    """A share in [0, 1] as blocks.

    >>> bar(0.5, 4), bar(0.28, 4), bar(1, 4)
    ('██··', '█▏··', '████')
    """
    eighths = round(share * length * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "") + "·" * (length - full - bool(rest))


def _short(value: float) -> str:
    """Three digits with a prefix."""
    scales: Sequence[tuple[float, str]] = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
    for scale, prefix in scales:
        if abs(value) >= scale:
            return f"{value / scale:.3g}{prefix}"
    return f"{value:.3g}"
