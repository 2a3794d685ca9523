"""A report as Markdown, with its pictures as files."""

import re
from collections.abc import Callable

from polyp_lightning.report.document import Block, Commands, Document, Link, Paragraph, Picture, Points, Table

# What could begin a mark-up inside a line. Dots, dashes and parentheses are left alone: numbers have to be readable.
_MARKS = re.compile(r"([\\`*_\[\]<>|~#&])")


def to_markdown(document: Document, folder: str) -> str:
    """The text.

    Args:
        document: the report.
        folder: where :meth:`Document.pictures` lie as ``<name>.<suffix>``, relative to the text.
    """
    parts = [f"# {escaped(document.title)}"]
    for section in document.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join([*parts, "---", escaped(document.footer)]) + "\n"


def escaped(text: str) -> str:
    r"""Text in which nothing is mark-up, on one line.

    >>> print(escaped("a_b <i>|\n*c*"))
    a\_b \<i\>\| \*c\*
    """
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block, folder: str) -> str:
    writers: dict[type, Callable[..., str]] = {
        Paragraph: lambda b: escaped(b.text),
        Points: lambda b: "\n".join(f"- {escaped(item)}" for item in b.items),
        Commands: _commands,
        Link: lambda b: f"[{escaped(b.text)}](<{b.address}>)",
        Picture: lambda b: f"![{escaped(b.alt)}](<{folder}/{b.name}.{b.suffix}>)\n\n{escaped(b.caption)}",
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
    head = [f"| {' | '.join(map(escaped, lines[0]))} |", f"| {' | '.join(lines[1])} |"]
    rows = [f"| {' | '.join(map(escaped, row))} |" for row in block.rows]
    return "\n".join([*head, *rows]) + f"\n\n{escaped(block.caption)}"
