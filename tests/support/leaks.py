"""How the shipped split lists were made: by whole groups of images that are alike, near-duplicates and sequences."""

import csv
import hashlib
import io
import re
from collections.abc import Collection, Mapping

from polyp_lightning.data.splitting import CARVE_SEED, shipped_text


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


def polyp_free() -> dict[str, str]:
    """PolypGen's frames without a polyp: name → ``clean``, or ``hard`` (dyed or resected sites)."""
    rows = csv.DictReader(io.StringIO(shipped_text("polypgen-polyp-free.csv")))
    return {row["frame"]: row["kind"] for row in rows}


def polypgen_groups(names: Collection[str]) -> dict[str, str]:
    """PolypGen's frames that belong on one side: of a patient of centre 1, of ten running numbers elsewhere.

    Centre 1 puts a number ahead of each name that stands for the patient or the examination; the others number their
    frames, and neighbours are alike. Near-duplicates join their groups.
    """
    first: dict[str, str] = {}
    pairs = [(first.setdefault(_polypgen_key(name), name), name) for name in names]
    return group_pairs([*pairs, *near_duplicates("polypgen")])


def carve_polypgen(names: Collection[str]) -> dict[str, list[str]]:
    """Divides PolypGen's centres 1, 2, 3 and 5: a tenth of each tests and a tenth of each validates.

    Groups that hold a frame without a polyp are carved first and apart, so that all parts get some.
    """
    groups = polypgen_groups(names)
    with_free = {groups[name] for name in names if name in polyp_free()}
    strata: dict[str, list[str]] = {}
    for name in names:
        strata.setdefault("free" if groups[name] in with_free else name[:2], []).append(name)
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for stratum in strata.values():
        rest, test = carve_groups(stratum, round(len(stratum) / 10), CARVE_SEED, groups)
        train, val = carve_groups(rest, round(len(stratum) / 10), CARVE_SEED, groups)
        for part, some in zip(parts, (train, val, test), strict=True):
            parts[part] += some
    return {part: sorted(some) for part, some in parts.items()}


def _polypgen_key(name: str) -> str:
    centre, _, rest = name.partition("-")
    if centre == "C1":
        return f"C1-{re.findall('^[0-9]+', rest)[0]}"
    return f"{centre}-{int(re.findall('[0-9]+', rest)[-1]) // 10}"


def clinicdb_sequences() -> dict[str, str]:
    """CVC-ClinicDB's frame → sequence table: 612 frames of 29 sequences."""
    rows = csv.DictReader(io.StringIO(shipped_text("clinicdb-sequences.csv")))
    return {row["frame"]: row["sequence"] for row in rows}
