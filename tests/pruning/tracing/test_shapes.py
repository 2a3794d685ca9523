from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from polyp_lightning.pruning.tracing.shapes import SHORTCUTS, call

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def vectors(count: int, size: int = 6) -> tuple[Tensor, ...]:
    return tuple(meta(size) for _ in range(count))


X = (2, 6, 4, 5)
ARGUMENTS: dict[Any, list[Callable[[], tuple[Any, ...]]]] = {
    aten.native_batch_norm.default: [
        lambda: (meta(*X), *vectors(4), False, 0.1, 1e-5),
        lambda: (meta(*X), *vectors(4), True, 0.1, 1e-5),
        lambda: (meta(*X), None, None, None, None, True, 0.1, 1e-5),
        lambda: (meta(2, 6), *vectors(4), True, 0.1, 1e-5),
    ],
    aten.native_layer_norm.default: [
        lambda: (meta(2, 9, 6), [6], *vectors(2), 1e-5),
        lambda: (meta(*X), [4, 5], None, None, 1e-5),
    ],
    aten.native_group_norm.default: [lambda: (meta(*X), *vectors(2), 2, 6, 20, 3, 1e-5)],
    aten.upsample_bilinear2d.default: [lambda: (meta(*X), [8, 7], False), lambda: (meta(*X), [8, 10], True, 2.0, 2.0)],
    aten.upsample_bicubic2d.default: [lambda: (meta(*X), [8, 7], False)],
    aten.add.Tensor: [lambda: (meta(*X), meta(*X)), lambda: (meta(*X), meta(6, 1, 1)), lambda: (meta(*X), 2)],
    aten.mul.Tensor: [
        lambda: (meta(*X), meta(*X)),
        lambda: (meta(*X), 0.5),
        lambda: (meta(*X), meta(*X, dtype=torch.float64)),
    ],
}
CASES = [(f, make) for f in SHORTCUTS for make in ARGUMENTS.get(f, [lambda: (meta(*X),)])]


def shapes(out: Any) -> list[tuple[Any, ...]]:
    tensors = (out,) if isinstance(out, Tensor) else out
    return [(tuple(t.shape), t.dtype, t.stride() if t.numel() else None, t.device.type) for t in tensors]


@pytest.mark.parametrize(("operation", "make"), CASES, ids=[f"{k}-{f}" for k, (f, _) in enumerate(CASES)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_call__gives_what_torchs_own_kernel_gives(
    operation: Any, make: Callable[[], tuple[Any, ...]], layout: torch.memory_format
) -> None:
    args = make()
    if args[0].ndim == 4:
        args = (args[0].contiguous(memory_format=layout), *args[1:])
    out = call(operation, args, {})
    assert shapes(out) == shapes(operation(*args))
    assert (out is args[0]) == (operation._schema.is_mutable and isinstance(out, Tensor))


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        (aten.native_layer_norm.default, (meta(2, 9, 6), [5], meta(5), meta(5), 1e-5)),
        (aten.native_group_norm.default, (meta(*X), *vectors(2), 2, 6, 20, 4, 1e-5)),
        (aten.add.Tensor, (meta(*X), meta(2, 5, 4, 5))),
        (aten.upsample_bilinear2d.default, (meta(*X), [0, 7], False)),
    ],
)
def test_call__leaves_what_does_not_fit_to_torch(operation: Any, args: tuple[Any, ...]) -> None:
    with pytest.raises((RuntimeError, AssertionError, ValueError, ArithmeticError)):
        call(operation, args, {})


def test_call__computes_real_tensors() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(call(aten.relu.default, (x,), {}), x.relu())
