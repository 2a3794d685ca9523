"""What a network is called with, as plain values for a checkpoint: shapes and types, and no image."""

from typing import Any

import torch
from torch import Tensor

from polyp_lightning.pruning import Example

_PLAIN = (bool, int, float, str, type(None))


def as_plain(example: Example) -> list[Any] | None:
    """Shapes and types in place of tensors; None where an argument is no tree of tensors and plain values.

    >>> as_plain(Example((torch.zeros(2, 3),), {"mode": "fast"}))
    ['dict', {'args': ['tuple', [['tensor', [2, 3], 'float32']]], 'kwargs': ['dict', {'mode': ['value', 'fast']}]}]
    """
    try:
        return _written({"args": example.args, "kwargs": dict(example.kwargs)})
    except TypeError:
        return None


def from_plain(values: Any) -> Example:
    """The inverse of :func:`as_plain`: an example without values.

    Raises:
        TypeError, ValueError, LookupError, RuntimeError: these are no such values.
    """
    found = _read(values)
    return Example.of(Example(found["args"], found["kwargs"]))


def _written(node: Any) -> list[Any]:
    if isinstance(node, Tensor):
        return ["tensor", list(node.shape), str(node.dtype).removeprefix("torch.")]
    if type(node) in (list, tuple):
        return [type(node).__name__, [_written(item) for item in node]]
    if type(node) is dict and all(type(key) is str for key in node):
        return ["dict", {key: _written(item) for key, item in node.items()}]
    if type(node) in _PLAIN:
        return ["value", node]
    msg = f"{type(node).__name__}"
    raise TypeError(msg)


def _read(node: Any) -> Any:
    kind, content, *rest = node
    if kind == "tensor":
        dtype = getattr(torch, rest[0])
        if not isinstance(dtype, torch.dtype) or not all(type(size) is int and 0 <= size < 2**31 for size in content):
            msg = f"a tensor of shape {content} and type {rest[0]}"
            raise ValueError(msg)
        return torch.empty(content, dtype=dtype, device="meta")
    if kind == "dict":
        return {str(key): _read(item) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_read(item) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "value" and type(content) in _PLAIN:
        return content
    msg = f"{kind!r:.40}"
    raise ValueError(msg)
