"""How messages name an option: as an argument in Python, as a flag on our command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_as_flags = False


@contextmanager
def name_flags() -> Iterator[None]:
    """Lets messages name flags: the command line runs inside."""
    global _as_flags
    before, _as_flags = _as_flags, True
    try:
        yield
    finally:
        _as_flags = before


def option(name: str, value: Any = None) -> str:
    """Names an option the way the reader gives it.

    Args:
        name: the flag without its dashes, such as ``pruning.end`` or ``trainer.max_epochs``.
        value: what to set it to, if the message proposes it.

    >>> option("pruning.end"), option("pruning.target", 1), option("trainer.max_epochs")
    ('end', 'target=1', "the Trainer's max_epochs")
    >>> with name_flags():
    ...     option("pruning.target", 1)
    '--pruning.target 1'
    """
    if _as_flags:
        return f"--{name}" if value is None else f"--{name} {value}"
    owner, _, argument = name.rpartition(".")
    said = argument if value is None else f"{argument}={value}"
    return f"the Trainer's {said}" if owner == "trainer" else said
