"""Writes files beside their targets and renames them, hashes them, and keeps the user's name out of them."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_beside(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target`` to write to; it takes the target's name when the block ends without an error.

    Creates missing parent folders. After an error nothing is left and an older target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hide_home(text: str) -> str:
    """Writes the home folder as ``~``, which hides the user's name; such a path can still be typed."""
    home = str(Path.home())
    if home == Path(home).anchor:
        return text
    # A lone ~ would be null in YAML.
    return re.sub(rf"{re.escape(home)}(?![^/\\\s'\"])", "~/", text).replace("~//", "~/")
