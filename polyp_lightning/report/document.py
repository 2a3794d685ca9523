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
    """A table of plain text.

    Attributes:
        head: names of the columns; the first column holds words, the others numbers.
        rows: as many cells each as there are names.
        caption: what the numbers are.
    """

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
    """A drawing or photograph.

    Attributes:
        name: a file's name without suffix, of its own within the document.
        data: the file's bytes.
        suffix: ``svg`` or ``jpg``.
        alt: what it shows, for those who don't see it.
        caption: what to know to read it.
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
    """A reference.

    Attributes:
        text: what is read.
        address: where it leads, https.
    """

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
    """A whole report.

    Attributes:
        title: its name.
        sections: in the order in which they are read.
        footer: what made it, and when.
    """

    title: str
    sections: Sequence[Section]
    footer: str

    def pictures(self) -> Iterator[Picture]:
        """All of them, in order."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Picture))
