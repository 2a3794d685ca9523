"""Split lists: the shipped ones, those a user writes, and those that are carved out.

A carve-out orders names by a hash, not by a random generator: it is the same on every machine and under every version
of every library.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath, PureWindowsPath

from polyp_lightning.common.errors import DataError, join_names

CARVE_SEED = 0
"""Seed of every carve-out, shipped or made on the fly. It is not the run's seed: runs with different seeds compare."""


def carve_out(names: Collection[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Sets ``count`` of the names aside: the first in the order of a hash of the seed and the name.

    Returns the names that stay and those set aside, each sorted.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    return sorted(ordered[count:]), sorted(ordered[:count])


def shipped_text(file: str) -> str:
    """Reads a text file shipped beside the split lists."""
    return (resources.files("polyp_lightning.data") / "splits" / file).read_text(encoding="utf-8")


def shipped_list(stem: str) -> list[str]:
    """Reads a shipped list, such as ``kvasir-880-120-test``."""
    return shipped_text(f"{stem}.txt").split()


def read_list(path: Path) -> list[str]:
    """Reads a user's split list: one name a line, with or without suffix; blank lines and ``#`` comments are skipped.

    Raises:
        DataError: the file is no text, or a name points out of the data set's folder.
    """
    try:
        # Windows' editors begin a file with a byte order mark.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the split list {path}: {error}. It must be UTF-8 text with one image name a line."
        raise DataError(msg) from error
    names = [line for line in lines if line and not line.startswith("#")]
    outside = [name for name in names if _is_path(name)]
    if outside:
        msg = (
            f"{path} holds names that are paths: {join_names(outside)}. "
            "A list holds names of images in images/, without any folder."
        )
        raise DataError(msg)
    return names


def check_parts(parts: Mapping[str, Sequence[str]], known: Collection[str], where: str, remedy: str) -> None:
    """Refuses a split (part → names) that names what is not there, or one image twice.

    ``where`` and ``remedy`` say in the message what the split divides, and what to do about a missing image.
    """
    there, owner = set(known), dict[str, str]()
    for part, names in parts.items():
        absent = [name for name in names if name not in there]
        if absent:
            msg = f"the {part} list names images that {where} does not have: {join_names(absent)}. {remedy}"
            raise DataError(msg)
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            msg = (
                f"the {part} list of {where} names images more than once: {join_names(twice)}. "
                "Remove the repeated lines."
            )
            raise DataError(msg)
        shared = [name for name in names if name in owner]
        if shared:
            msg = (
                f"the {part} and {owner[shared[0]]} lists of {where} overlap: {join_names(shared)}. "
                "An image may stand in one list only: remove it from the other."
            )
            raise DataError(msg)
        owner.update(dict.fromkeys(names, part))


def _is_path(name: str) -> bool:
    r"""Checks whether a name could lead out of a folder, on any system.

    >>> [_is_path(name) for name in ("a.jpg", "../a.jpg", "/a", "C:a", "b\\a", "..")]
    [False, True, True, True, True, True]
    """
    windows = PureWindowsPath(name)
    return name in {".", ".."} or len(windows.parts) != 1 or bool(windows.drive) or PurePosixPath(name).is_absolute()
