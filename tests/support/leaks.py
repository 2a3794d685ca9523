"""What is known about the images of the published data sets: near-duplicates, and the sequences of CVC-ClinicDB."""

import csv
import io
from collections.abc import Collection

from polyp_lightning.data.splitting import shipped_text


def group_pairs(pairs: Collection[tuple[str, str]]) -> dict[str, str]:
    """Joins pairs into groups, transitively; a group is called after its first name.

    >>> group_pairs([("b", "a"), ("b", "c"), ("x", "y")])
    {'a': 'a', 'b': 'a', 'c': 'a', 'x': 'x', 'y': 'x'}
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        leader[high] = low
    return {name: find(name) for name in sorted(leader)}


def near_duplicates(dataset: str) -> list[tuple[str, str]]:
    """The published pairs of near-identical frames of ``kvasir`` or ``clinicdb``, as names without suffix."""
    rows = csv.DictReader(io.StringIO(shipped_text("near-duplicates.csv")))
    return [(row["a"], row["b"]) for row in rows if row["dataset"] == dataset]


def clinicdb_sequences() -> dict[str, str]:
    """CVC-ClinicDB's frame → sequence table: 612 frames of 29 sequences."""
    rows = csv.DictReader(io.StringIO(shipped_text("clinicdb-sequences.csv")))
    return {row["frame"]: row["sequence"] for row in rows}
