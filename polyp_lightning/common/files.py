"""Writing files so that none is ever half there."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_beside(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it takes the target's name when the block ends without an error.

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
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hide_home(text: str) -> str:
    """A text in which the home folder is ``~``, as a path below it may be typed too; strangers learn no user's name."""
    home = str(Path.home())
    if home == Path(home).anchor:
        return text
    # A lone ~ would be null in YAML.
    return re.sub(rf"{re.escape(home)}(?![^/\\\s'\"])", "~/", text).replace("~//", "~/")
