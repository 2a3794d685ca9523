"""A report as Markdown, with its pictures as files."""

import re
from collections.abc import Callable

from polyp_lightning.report.document import Block, Commands, Document, Link, Paragraph, Picture, Points, Table

# What could begin a mark-up inside a line. Dots, dashes and parentheses are left alone: numbers have to be readable.
_MARKS = re.compile(r"([\\`*_\[\]<>|~#&])")


def to_markdown(document: Document, folder: str) -> str:
    """Writes the report as text; its pictures lie in ``folder``, relative to it, as ``<name>.<suffix>``."""
    parts = [f"# {escape(document.title)}"]
    for section in document.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join([*parts, "---", escape(document.footer)]) + "\n"


def escape(text: str) -> str:
    r"""Escapes mark-up, and puts the text on one line.

    >>> print(escape("a_b <i>|\n*c*"))
    a\_b \<i\>\| \*c\*
    """
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block, folder: str) -> str:
    writers: dict[type, Callable[..., str]] = {
        Paragraph: lambda b: escape(b.text),
        Points: lambda b: "\n".join(f"- {escape(item)}" for item in b.items),
        Commands: _commands,
        Link: lambda b: f"[{escape(b.text)}](<{b.address}>)",
        Picture: lambda b: f"![{escape(b.alt)}](<{folder}/{b.name}.{b.suffix}>)\n\n{escape(b.caption)}",
        Table: _table,
    }
    return writers[type(block)](block)


def _commands(block: Commands) -> str:
    text = "\n".join(block.lines)
    # A fence is longer than any run of backticks inside it.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _table(block: Table) -> str:
    lines = [block.head, ["---", *["---:"] * (len(block.head) - 1)]]
    head = [f"| {' | '.join(map(escape, lines[0]))} |", f"| {' | '.join(lines[1])} |"]
    rows = [f"| {' | '.join(map(escape, row))} |" for row in block.rows]
    return "\n".join([*head, *rows]) + f"\n\n{escape(block.caption)}"
