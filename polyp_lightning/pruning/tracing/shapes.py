"""Shapes of the results of operations whose own kernels for ``meta`` tensors are slow.

Torch works these out by decompositions in Python, which take up to 2 ms a call and most of the time of a trace. Here,
anything but the plain case is left to them: errors, types and memory formats stay theirs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[..., Any]

_FLOATS = (torch.float32, torch.float64)


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operation, on ``meta`` tensors by a short cut where there is one."""
    shortcut = SHORTCUTS.get(func)
    if shortcut is not None and not kwargs and _plain(args[0]):
        out = shortcut(*args)
        if out is not None:
            return out
    return func(*args, **kwargs)


def _plain(x: Any) -> bool:
    is_meta = type(x) in (Tensor, torch.nn.Parameter) and x.is_meta
    return is_meta and x.dtype in _FLOATS and x.is_contiguous() and x.numel() > 0


def _fit(x: Tensor, shape: tuple[int, ...], *tensors: Tensor | None) -> bool:
    return all(t is None or (t.is_meta and t.dtype == x.dtype and t.shape == shape) for t in tensors)


def _same(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


def _in_place(x: Tensor, *_: object) -> Tensor:
    return x


def _with_like(x: Tensor, other: Any, *_: object) -> Tensor | None:
    """Of a tensor and a number, or of two tensors of one shape."""
    if type(other) in (int, float):
        return torch.empty_like(x)
    return torch.empty_like(x) if _plain(other) and _fit(x, x.shape, other) else None


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor] | None:
    if x.ndim < 2 or not _fit(x, (x.shape[1],), weight, bias, mean, variance):
        return None
    if not training and (mean is None or variance is None):
        return None
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, *_: object
) -> tuple[Tensor, Tensor, Tensor] | None:
    outer, inner = x.shape[: x.ndim - len(shape)], x.shape[x.ndim - len(shape) :]
    if not shape or inner != tuple(shape) or not _fit(x, tuple(shape), weight, bias):
        return None
    statistics = (*outer, *(1 for _ in shape))
    return torch.empty_like(x), x.new_empty(statistics), x.new_empty(statistics)


def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    images: int,
    channels: int,
    area: int,
    groups: int,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor] | None:
    as_told = x.shape[:2] == (images, channels) and math.prod(x.shape[2:]) == area
    if not as_told or channels % groups or not _fit(x, (channels,), weight, bias):
        return None
    return torch.empty_like(x), x.new_empty((images, groups)), x.new_empty((images, groups))


def _resample(x: Tensor, size: list[int], *_: object) -> Tensor | None:
    if x.ndim != 4 or len(size) != 2 or min(size) < 1:
        return None
    return x.new_empty((*x.shape[:2], *size))


_aten = torch.ops.aten
_SAME = (_aten.relu, _aten.hardtanh, _aten.hardswish, _aten.hardsigmoid, _aten.leaky_relu, _aten.gelu, _aten.elu)
SHORTCUTS: dict[Any, Kernel] = {
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_layer_norm.default: _layer_norm,
    _aten.native_group_norm.default: _group_norm,
    _aten.upsample_bilinear2d.default: _resample,
    _aten.upsample_bicubic2d.default: _resample,
    _aten.add.Tensor: _with_like,
    _aten.mul.Tensor: _with_like,
    _aten.hardtanh_.default: _in_place,
    _aten.hardswish_.default: _in_place,
    _aten.hardsigmoid_.default: _in_place,
    _aten.leaky_relu_.default: _in_place,
    **{operation.default: _same for operation in _SAME},
}
