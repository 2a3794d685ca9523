"""How the shipped split lists were made: by whole groups of images that are alike, near-duplicates and sequences."""

import csv
import hashlib
import io
from collections.abc import Collection, Mapping

from polyp_lightning.data.splitting import shipped_text


def carve_groups(
    names: Collection[str], count: int, seed: int, groups: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Sets some names aside, whole groups at a time.

    Groups are visited in the order of a hash of the seed and the group's name; a group that would overshoot ``count``
    is passed over.

    Args:
        names: what to divide, without repetition.
        count: how many names to set aside at most; exactly so many if single names are left to fill up with.
        seed: another seed gives another carve-out.
        groups: name → group; a name that is not in it is a group of its own.

    Returns:
        The names that stay and those set aside, each sorted.

    >>> stay, aside = carve_groups(["a", "b", "c", "d"], count=2, seed=0, groups={"a": "ab", "b": "ab"})
    >>> ("a" in aside) == ("b" in aside), len(stay), len(aside)
    (True, 2, 2)
    """
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups.get(name, name), []).append(name)
    aside: set[str] = set()
    for group in sorted(members, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()):
        if len(aside) + len(members[group]) <= count:
            aside.update(members[group])
    return sorted(set(names) - aside), sorted(aside)


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
