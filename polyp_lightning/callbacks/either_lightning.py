"""The same classes come from two packages: ``lightning.pytorch`` and ``pytorch_lightning``."""

from typing import Any


def is_a(thing: Any, *classes: type) -> bool:
    """Tells whether a thing is an instance of one of Lightning's classes, whichever of its packages made it.

    Args:
        thing: a strategy or a callback.
        classes: as ``lightning.pytorch`` has them.
    """
    wanted = {_name(one) for one in classes}
    return any(_name(one) in wanted for one in type(thing).__mro__)


def is_exactly(thing: Any, one: type) -> bool:
    """:func:`is_a` without subclasses."""
    return _name(type(thing)) == _name(one)


def _name(one: type) -> tuple[str, str]:
    return one.__module__.replace("pytorch_lightning", "lightning.pytorch", 1), one.__qualname__
