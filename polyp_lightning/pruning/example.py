"""What a network is called with: any tree of tensors and plain values, as positional and keyword arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from polyp_lightning.common.errors import PruningError

Like = Union["Example", Tensor, Sequence[Any], Mapping[str, Any]]
"""An example, or what :meth:`Example.of` makes one from."""


@dataclass(frozen=True, eq=False)
class Example:
    """One call of a network.

    Tensors on the ``meta`` device have a shape and no values; where values are needed they are drawn.

    Attributes:
        args: positional arguments: tensors, plain values, and tuples, lists and dicts of them.
        kwargs: keyword arguments, likewise.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, example: Like) -> "Example":
        """Makes an example of a shape, or of arguments written as Lightning's ``example_input_array``.

        Args:
            example: a shape such as ``(2, 3, 64, 64)`` of one float tensor; one tensor; a tuple of positional
                arguments; a dict of keyword arguments; or an example, which is returned.

        Raises:
            PruningError: it is nothing of this, or holds no tensor with a batch dimension.

        >>> Example.of((2, 3, 64, 64)), Example.of({"image": torch.zeros(1, 3, 8, 8), "age": torch.tensor([40])})
        (Example((2, 3, 64, 64)), Example(image=(1, 3, 8, 8), age=int64 (1,)))
        """
        if not isinstance(example, Example):
            example = cls(*_arguments(example))
        if not any(tensor.ndim for tensor in example.tensors):
            msg = f"{example} holds no tensor with a batch dimension; give a shape (N, C, …), a tensor or an Example"
            raise PruningError(msg)
        return example

    @classmethod
    def of_call(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Example":
        """Records a call: the tensors are copied, without their graphs and as plain tensors."""
        # MONAI's images are a class of tensors of their own.
        return cls(args, kwargs)._map(lambda tensor: tensor.detach().as_subclass(Tensor).clone())

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in order."""
        return [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the input of a network that takes one tensor; ``()`` for any other."""
        only_one = len(self.args) == 1 and not self.kwargs and isinstance(self.args[0], Tensor)
        return tuple(self.args[0].shape) if only_one else ()

    @property
    def batch(self) -> int:
        """Number of items: the first size of the first tensor of floats, or of the first tensor where there is none."""
        with_batch = [tensor for tensor in self.tensors if tensor.ndim]
        floats = (tensor for tensor in with_batch if tensor.is_floating_point())
        return int(next(floats, with_batch[0]).shape[0])

    def at_least_two(self) -> "Example":
        """The same with a batch of two if it was one: tensors whose first size is 1 are repeated."""
        if self.batch != 1:
            return self
        return self._map(lambda tensor: torch.cat([tensor, tensor]) if tensor.shape[:1] == (1,) else tensor)

    def one_item(self) -> "Example":
        """The first item alone: of tensors whose first size is the batch's."""
        batch = self.batch
        return self._map(lambda tensor: tensor[:1] if tensor.shape[:1] == (batch,) else tensor)

    def without_values(self, dtype: torch.dtype, device: str | torch.device = "meta") -> "Example":
        """New tensors of the same shapes whose values nobody set, those of floats in the type given."""
        return self._map(
            lambda t: torch.empty(t.shape, dtype=dtype if t.is_floating_point() else t.dtype, device=device)
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> "Example":
        """A copy on a device, floats in the type given; values that are missing are drawn, always the same ones."""
        generator = torch.Generator().manual_seed(0)

        def moved(tensor: Tensor) -> Tensor:
            if tensor.is_meta and tensor.is_floating_point():
                tensor = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
            elif tensor.is_meta:
                tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
            return tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)

        return self._map(moved)

    def call(self, net: nn.Module) -> Any:
        """Calls a network."""
        return net(*self.args, **self.kwargs)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Example":
        args, kwargs = tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, (self.args, dict(self.kwargs)))
        return Example(args, kwargs)

    def __repr__(self) -> str:
        """Shapes in place of tensors, with their types if they are not floats."""
        args, kwargs = tree_map(_shown, (self.args, dict(self.kwargs)))
        return f"Example({', '.join([*map(repr, args), *(f'{name}={value!r}' for name, value in kwargs.items())])})"

    def __str__(self) -> str:
        """For messages."""
        return f"an input of shape {self.shape}" if self.shape else repr(self)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, Sequence) and example and all(type(size) is int and size > 0 for size in example):
        return (torch.empty(tuple(example), device="meta"),), {}
    if isinstance(example, tuple):
        return example, {}
    msg = (
        f"the example is {example!r}; give a shape such as (2, 3, 352, 352), a tensor, a tuple of positional "
        "arguments, a dict of keyword arguments, or an Example"
    )
    raise PruningError(msg)


class _Shown(str):
    """A text that is shown without quotes."""

    __repr__ = str.__str__


def _shown(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    kind = "" if leaf.is_floating_point() else f"{str(leaf.dtype).removeprefix('torch.')} "
    return _Shown(f"{kind}{tuple(leaf.shape)}")
