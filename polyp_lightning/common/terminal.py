"""Writes to the terminal beside a progress bar."""

import io
import shutil
import sys

from rich.console import Console, RenderableType
from tqdm import tqdm


def render(renderable: RenderableType, width: int, colour: bool = False) -> str:
    """Renders something of rich's as text of at most ``width`` columns, with colours only where asked for."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=colour, highlight=False, emoji=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n"))


def show(renderable: RenderableType) -> None:
    """Prints above any running progress bar, 80 to 120 columns wide, without colours in a pipe."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    show_text(render(renderable, width, colour=sys.stdout.isatty()))


def show_text(text: str) -> None:
    """Prints lines as they are, unwrapped, so that paths and commands can be copied."""
    encoding = sys.stdout.encoding or "utf-8"
    # A terminal that cannot show a line of a table must not end a training run.
    tqdm.write(text.encode(encoding, errors="replace").decode(encoding), file=sys.stdout)
    # In a file or a pipe it would stay in the buffer, for minutes.
    sys.stdout.flush()
