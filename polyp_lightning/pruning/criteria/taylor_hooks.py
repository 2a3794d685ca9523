"""Per image, the first-order change of the loss when a component is removed, measured where its channels are read.

When a component leaves the network, the loss changes to first order by minus the derivative along "scale everything the
component feeds into its consumers by g" at g = 1. So it is taken at the *consumers*, the layers that read the
component's channels: for each, with input ``x`` and the gradient that reaches ``x`` through that consumer alone,

    s[n, c] = Σ_consumers Σ_space  x[n, c] · ∂L/∂x[n, c]

summed over all consumers of a component before anything else. This number is called the **change** of a component on an
image (removal changes the loss by −s, to first order); criteria make one importance of it per component. Unlike a hook
on the layer that *makes* a filter it is exact for residual streams, concatenations and depthwise convolutions. Where
the graph asks for it (``side`` is ``output``) the sum is over the layer's output instead.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.graph import ChannelGraph, Consumer

# Only has to keep 0 / 0 from being a number: gradients of a mean loss in mixed precision are small but never this
# small.
EPSILON = 1e-12

# Values of x that are multiplied at a time on a processor. The product then stays in its cache; a larger one is written
# to memory that has to be asked from the system first, which takes ten times as long as reading x and its gradient.
_PIECE = 2**20
# On an accelerator pieces only bound the memory that is needed for a moment: each costs several launches.
_LARGE_PIECE = 2**26


def contract(x: Tensor, gradient: Tensor, channel_dim: int) -> Tensor:
    """Returns Σ_space x · gradient per image and channel.

    Args:
        x: (N, C, *) with ``channel_dim`` 1, or (N, *, C) with ``channel_dim`` −1.
        gradient: of the same shape.
        channel_dim: 1 or −1.

    Returns:
        (N, C), float32 or wider.
    """
    dtype = wide(x)
    space = [d for d in range(1, x.ndim) if d != channel_dim % x.ndim]
    piece = _PIECE if x.is_cpu else _LARGE_PIECE
    if x.numel() <= piece or not space:
        product = x.to(dtype) * gradient.to(dtype)
        return product.sum(space) if space else product
    if x.ndim == 4 and channel_dim == 1 and x.is_cpu and x.dtype == gradient.dtype:
        return _contract_images(x, gradient).to(dtype)
    rows = max(1, x.shape[space[0]] * piece // x.numel())
    pairs = zip(x.split(rows, space[0]), gradient.split(rows, space[0]), strict=True)
    return torch.stack([(a.to(dtype) * b.to(dtype)).sum(space) for a, b in pairs]).sum(0)


def _contract_images(x: Tensor, gradient: Tensor) -> Tensor:
    """:func:`contract` image by image, as the gradient of a batch norm's scale at mean 0 and deviation 1.

    That kernel reads both once and writes nothing else, which on a processor takes two thirds of the time.
    """
    mean = x.new_zeros(x.shape[1], dtype=wide(x))
    deviation = torch.ones_like(mean)
    backward = torch.ops.aten.native_batch_norm_backward
    each = [
        backward(g, image, deviation, None, None, mean, deviation, True, 0.0, [False, True, False])[1]
        for image, g in zip(x.split(1), gradient.split(1), strict=True)
    ]
    return torch.stack(each)


def wide(tensor: Tensor) -> torch.dtype:
    """Returns the type to add up in: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class ForwardPass:
    """One forward pass of a network, and what has been seen of its backward pass.

    Attributes:
        images: how many; set at the end of the forward pass.
        parts: per layer seen, changes (N, C) and the component of each.
        squared_norm: (N,), of the gradients at the outputs; None until the first arrives.
        spoiled: something was overwritten before it was seen.
    """

    def __init__(self) -> None:
        self.images = 0
        self.parts: list[tuple[Tensor, Tensor]] = []
        self.squared_norm: Tensor | None = None
        self.spoiled = False

    def add(self, changes: Tensor, channels: Tensor) -> None:
        """Adds those of one layer: (N, C), or (N · windows, C) where windows are folded into the batch."""
        if len(changes) != self.images:
            changes = changes.reshape(self.images, -1, changes.shape[-1]).sum(1)
        self.parts.append((changes, channels))

    def add_output(self, gradient: Tensor) -> None:
        """Adds the gradient at one output."""
        squares = gradient.to(wide(gradient)).flatten(1).square().sum(1)
        self.squared_norm = squares if self.squared_norm is None else self.squared_norm + squares

    def changes(self, size: int) -> Tensor:
        """Returns the sum over the layers: (N, size)."""
        values = torch.cat([changes for changes, _ in self.parts], 1)
        channels = torch.cat([c for _, c in self.parts])
        return values.new_zeros(self.images, size).index_add_(1, channels, values)


class LayerChanges:
    """Hooks on a network that hand over changes per image and component after each backward pass.

    Used as a context manager, or with :meth:`attach` and :meth:`detach`. ``on_changes(changes, norm)`` is called at the
    end of a backward pass, once for each forward pass that it goes back through, with ``changes`` of shape
    (N, graph.size) and ``norm`` of shape (N,), the gradient's norm at the output, over all tensors where the output is
    several. Forward passes without gradients are not watched, nor is a second backward pass over the same graph.

    Inside layers that are recomputed during backward (``torch.utils.checkpoint``) changes are right, but for the
    non-reentrant kind the layers' inputs stay in memory.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph, on_changes: Callable[[Tensor, Tensor], None]) -> None:
        self._net = net
        self._graph = graph
        self._on_changes = on_changes
        self._handles: list[RemovableHandle] = []
        self._forward: ForwardPass | None = None
        self._backward: ForwardPass | None = None

    def __enter__(self) -> "LayerChanges":
        """Attaches the hooks."""
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the hooks."""
        self.detach()

    def attach(self) -> None:
        """Starts watching; does nothing if already watching."""
        if self._handles:
            return
        self._handles = [
            self._net.register_forward_pre_hook(self._begin_forward),
            self._net.register_forward_hook(self._end_forward),
            *self._watch_layers(),
        ]

    def detach(self) -> None:
        """Removes every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forward = self._backward = None

    @abstractmethod
    def _watch_layers(self) -> list[RemovableHandle]:
        """Attaches hooks to layers that add to :meth:`_current`."""

    def _current(self) -> ForwardPass | None:
        """Returns the pass that a layer runs in; during a backward pass it is run to recompute."""
        return self._forward or self._backward

    def _begin_forward(self, net: nn.Module, args: tuple[Any, ...]) -> None:
        self._forward = ForwardPass() if torch.is_grad_enabled() else None

    def _end_forward(self, net: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        done, self._forward = self._forward, None
        tensors = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad]
        if done is None or not tensors:
            return None
        done.images = len(tensors[0])
        if any(len(t) != done.images for t in tensors):
            msg = f"the network's outputs have shapes {[tuple(t.shape) for t in tensors]}; the first size is to be N"
            raise PruningError(msg)
        watch = partial(self._watch_output, done)
        if len(tensors) == 1:
            watch(tensors[0])
            return None
        # Where one output is made from another, a view of its own has the gradient that arrives from outside only.
        return tree_map(lambda t: watch(t.view_as(t)) if isinstance(t, Tensor) and t.requires_grad else t, out)

    def _watch_output(self, done: ForwardPass, out: Tensor) -> Tensor:
        out.register_hook(partial(self._begin_backward, done))
        return out

    def _begin_backward(self, done: ForwardPass, gradient: Tensor) -> None:
        if done.squared_norm is None:
            self._backward = done
            # Called once the whole backward pass is done, whatever order the layers came in.
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._finish, done))
        done.add_output(gradient)

    def _finish(self, done: ForwardPass) -> None:
        if done.parts and done.squared_norm is not None and not done.spoiled:
            self._on_changes(done.changes(self._graph.size), done.squared_norm.sqrt())
        done.parts, done.squared_norm, self._backward = [], None, None


class ConsumerChanges(LayerChanges):
    """:class:`LayerChanges` of s[n, c], the first-order change of the loss as defined at the top of this module."""

    def _watch_layers(self) -> list[RemovableHandle]:
        return [self._watch_consumer(consumer) for consumer in self._graph.consumers]

    def _watch_consumer(self, consumer: Consumer) -> RemovableHandle:
        module = self._net.get_submodule(consumer.weight.rpartition(".")[0])
        channels = torch.as_tensor(consumer.channels, device=next(module.parameters()).device)
        channel_dim = -1 if isinstance(module, nn.Linear) else 1
        if consumer.side == "output":
            return module.register_forward_hook(partial(self._see_output, channels, channel_dim))
        return module.register_forward_pre_hook(partial(self._see_input, channels, channel_dim), with_kwargs=True)

    def _see_input(
        self, channels: Tensor, channel_dim: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        now = self._current()
        if not torch.is_grad_enabled() or now is None:
            return None
        x: Tensor = args[0] if args else kwargs["input"]
        # A view of its own: its gradient is what flows back through this consumer alone, and the consumer saves it for
        # its own backward pass: no later in-place operation may overwrite it.
        # Behind frozen layers nothing requires a gradient, and yet their filters need an importance.
        view = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        _watch_change(view, view.detach(), now, channels, channel_dim)
        return ((view, *args[1:]), kwargs) if args else ((), {**kwargs, "input": view})

    def _see_output(
        self, channels: Tensor, channel_dim: int, module: nn.Module, args: tuple[Any, ...], out: Tensor
    ) -> None:
        now = self._current()
        if now is not None and out.requires_grad:
            # A copy: nothing keeps the next layer from overwriting an output.
            _watch_change(out, out.detach().clone(), now, channels, channel_dim)


def _watch_change(tensor: Tensor, values: Tensor, now: ForwardPass, channels: Tensor, channel_dim: int) -> None:
    """Adds Σ values · gradient when the tensor's gradient arrives."""
    # Let go then: backward frees it as early as it would without the hook, and a second backward pass over the same
    # graph adds nothing.
    held = [values]

    def add(gradient: Tensor) -> None:
        if held:
            now.add(contract(held.pop(), gradient, channel_dim), channels)

    tensor.register_hook(add)
