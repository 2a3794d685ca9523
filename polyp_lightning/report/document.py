"""What a report consists of, whatever it is written as."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from polyp_lightning.report.numbers import DASH


@dataclass(frozen=True)
class Paragraph:
    """A few sentences of plain text."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of plain text, whose first column holds words and the others numbers; a row has a cell for each name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str

    @property
    def silent(self) -> set[str]:
        """Names of the columns that say nothing in any row."""
        return {name for place, name in enumerate(self.head) if all(row[place] == DASH for row in self.rows)}

    def without(self, names: Collection[str]) -> "Table":
        """The table without columns of these names."""
        kept = [place for place, name in enumerate(self.head) if name not in names]
        rows = [[row[place] for place in kept] for row in self.rows]
        return Table([self.head[place] for place in kept], rows, self.caption)


@dataclass(frozen=True)
class Picture:
    """A drawing or photograph, with words for those who don't see it and a caption for those who do.

    The name is a file's, without its suffix ``svg`` or ``jpg``, and of its own within the document.
    """

    name: str
    data: bytes
    suffix: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Commands:
    """Lines to be pasted into a shell, or the contents of a file."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Link:
    """What is read, and the https address where it leads."""

    text: str
    address: str


Block = Paragraph | Points | Table | Picture | Commands | Link


@dataclass(frozen=True)
class Section:
    """A headed part of a report."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report; the footer says what made it, and when."""

    title: str
    sections: Sequence[Section]
    footer: str

    def pictures(self) -> Iterator[Picture]:
        """All of them, in order."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Picture))
