"""Plain values, which come out of files, and the types of a dataclass."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def check_fields(record: T) -> T:
    """Checks the fields of a dataclass of quantities, and returns it.

    Raises:
        TypeError: a field's value is of another type than the field, or it is negative or beyond all measure.
    """
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if not _fits(value, hint):
            msg = f"{name} can't be {type(value).__name__} {value!r:.40}"
            raise TypeError(msg)
    return record


def is_plain(value: Any) -> bool:
    """Tells whether a value consists of numbers, texts, truth values and None, in lists and tables.

    >>> is_plain({"widths": [8, 16], "name": None}), is_plain({"kind": int})
    (True, False)
    """
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _fits(value: Any, hint: Any) -> bool:
    if hint is str:
        return type(value) is str
    if hint in (int, float):
        # NaN is the score of no image at all.
        return type(value) in {int, hint} and not (value < 0 or value > 2**53)
    if get_origin(hint) in (dict, Mapping):
        key, item = get_args(hint)
        return isinstance(value, dict) and all(type(k) is key and _fits(v, item) for k, v in value.items())
    return value is None if hint is type(None) else any(_fits(value, option) for option in get_args(hint))
