"""What all drawings of a report share: a look that survives grey print and colour blindness, and safe text."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyp_lightning.report.document import Picture

# Okabe and Ito's colours without their yellow, which white paper swallows; four more for long legends.
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#777777"),
    *("#8C510A", "#6A3D9A", "#882255", "#7FC241"),
)
_MARKERS = "osD^vP*X"
_DASHES = ("-", "--", "-.", ":")

_LONGEST = 60

_SETTINGS: Any = {
    # Text stays text: it can be searched and read aloud, and a browser has fonts for every script.
    "svg.fonttype": "none",
    # The same data give the same bytes.
    "svg.hashsalt": "polyp_lightning",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn.

    No two of the first 32 have the same marker and dash, which is what grey print leaves; of the first 16, those of one
    colour differ in both.
    """

    colour: str
    marker: str
    dash: str


def choose_looks(names: Sequence[str]) -> dict[str, Look]:
    """Chooses a look for each name, in order."""
    return {
        name: Look(
            _COLOURS[number % len(_COLOURS)],
            _MARKERS[number % len(_MARKERS)],
            # Shifted in each round of the markers, so that no two of the three come back together.
            _DASHES[(number + number // len(_MARKERS)) % len(_DASHES)],
        )
        for number, name in enumerate(names)
    }


def make_literal(text: str) -> str:
    r"""Makes text that Matplotlib draws literally: no formulas, nothing hidden, no control characters, at most 60 long.

    >>> print(make_literal("a$b"))
    a\$b
    """
    # A longer legend leaves no room for the drawing.
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    clean = "".join(char if char.isprintable() else "\ufffd" for char in short).replace("$", r"\$")
    # Labels that begin with an underscore are left out of legends.
    return f"\u200b{clean}" if clean.startswith("_") else clean


@contextmanager
def open_figure(width: float, height: float) -> Iterator[Figure]:
    """Opens a figure of so many inches, drawn with the report's settings."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # Only their widths are unknown; the browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield Figure(figsize=(width, height), layout="constrained")


def to_picture(figure: Figure, name: str, alt: str, caption: str) -> Picture:
    """Turns a figure into SVG; inside :func:`open_figure`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(name, buffer.getvalue(), "svg", alt, caption)


def tidy(axes: Axes, x: str, y: str) -> None:
    """Names the axes and draws a light grid below everything."""
    axes.set_xlabel(make_literal(x))
    axes.set_ylabel(make_literal(y))
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)


def add_legend(axes: Axes) -> None:
    """Adds a legend beside the drawing, where it covers nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
