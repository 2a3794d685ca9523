"""The pages of the options that most people need; the whole list, of hundreds of lines, is ``--help_all``.

The pages are files, written by :mod:`polyp_lightning.cli.help_pages`: the parsers that know the options take many
seconds to import.
"""

from pathlib import Path

ALL = "--help_all"
PAGES = Path(__file__).parent / "pages"


def read_page(verb: str) -> str | None:
    """Reads a verb's page; None where its parser's own help fits a screen."""
    path = PAGES / f"{verb}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else None
