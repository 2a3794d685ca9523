"""Taylor scores, measured where channels are read.

When a component leaves the network, the loss changes to first order by minus the derivative along "scale everything the
component feeds into its consumers by g" at g = 1. So the score is taken at the *consumers*, the layers that read the
component's channels: for each, with input ``x`` and the gradient that reaches ``x`` through that consumer alone,

    s[n, c] = Σ_consumers Σ_space  x[n, c] · ∂L/∂x[n, c]

summed over all consumers of a component before anything else. Unlike a hook on the layer that *makes* a filter this is
exact for residual streams, concatenations and depthwise convolutions.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polyp_lightning.pruning.graph import ChannelGraph, Consumer

# Only has to keep 0 / 0 from being a number: gradients of a mean loss in mixed precision are small but never this
# small.
EPSILON = 1e-12


def contract(x: Tensor, gradient: Tensor, channel_dim: int) -> Tensor:
    """Σ_space x · gradient per image and channel.

    Args:
        x: (N, C, *) with ``channel_dim`` 1, or (N, *, C) with ``channel_dim`` −1.
        gradient: of the same shape.
        channel_dim: 1 or −1.

    Returns:
        (N, C), float32 or wider.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rest = [d for d in range(1, x.ndim) if d != channel_dim % x.ndim]
    if not rest:
        return x.to(dtype) * gradient.to(dtype)
    return (x.to(dtype) * gradient.to(dtype)).sum(rest)


def output_gradient_norm(gradient: Tensor) -> Tensor:
    """‖∂L/∂y_n‖₂ of each image: (N, …) → (N,), float32 or wider."""
    dtype = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    norm: Tensor = torch.linalg.vector_norm(gradient.to(dtype).flatten(1), dim=1)
    return norm


class ConsumerScores:
    """Hooks on a network that hand over s[n, c] after each backward pass.

    Used as a context manager, or with :meth:`attach` and :meth:`detach`. ``on_scores(s, norm)`` is called at the end
    of every backward pass with ``s`` of shape (N, graph.size) and ``norm`` of shape (N,), the gradient's norm at the
    output.

    Only forward passes with gradients enabled are scored.
    """

    def __init__(
        self,
        net: nn.Module,
        graph: ChannelGraph,
        on_scores: Callable[[Tensor, Tensor], None],
    ) -> None:
        self._net = net
        self._size = graph.size
        self._on_scores = on_scores
        self._handles: list[RemovableHandle] = []
        self._scores: Tensor | None = None
        self._norm: Tensor | None = None
        self._consumers = [(net.get_submodule(c.weight.rpartition(".")[0]), c) for c in graph.consumers]

    def __enter__(self) -> "ConsumerScores":
        """Attach the hooks."""
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the hooks."""
        self.detach()

    def attach(self) -> None:
        """Start to watch; does nothing if already watching."""
        if self._handles:
            return
        self._handles.append(self._net.register_forward_hook(self._watch_output))
        for module, consumer in self._consumers:
            self._handles.append(module.register_forward_pre_hook(self._input_hook(module, consumer), with_kwargs=True))

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._scores = self._norm = None

    def _watch_output(self, net: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(out, Tensor) and out.requires_grad:
            out.register_hook(self._begin)

    def _begin(self, gradient: Tensor) -> None:
        """The output's gradient is the first that a backward pass computes."""
        self._norm = output_gradient_norm(gradient)
        self._scores = self._norm.new_zeros(len(gradient), self._size)
        # Called once the whole backward pass is done, whatever order the layers came in.
        torch.autograd.Variable._execution_engine.queue_callback(self._finish)

    def _finish(self) -> None:
        if self._scores is not None and self._norm is not None:
            self._on_scores(self._scores, self._norm)
        self._scores = self._norm = None

    def _input_hook(self, module: nn.Module, consumer: Consumer) -> Callable[..., tuple[Any, dict[str, Any]] | None]:
        channels = torch.as_tensor(consumer.channels)
        channel_dim = -1 if isinstance(module, nn.Linear) else 1

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            x: Tensor = args[0] if args else kwargs["input"]
            if not torch.is_grad_enabled():
                return None
            # A view of its own: its gradient is what flows back through this consumer alone, and the consumer saves
            # it for its own backward pass, so that no later in-place operation may overwrite it.
            # Behind frozen layers nothing requires a gradient, and yet their filters have to be scored.
            view = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            # Let go when its gradient arrives, so that backward frees it as early as it would without the hook; a
            # second backward pass over the same graph is not scored again.
            held = [view.detach()]
            view.register_hook(lambda grad: self._add(held.pop(), grad, channels, channel_dim) if held else None)
            return ((view, *args[1:]), kwargs) if args else ((), {**kwargs, "input": view})

        return hook

    def _add(self, x: Tensor, gradient: Tensor, channels: Tensor, channel_dim: int) -> None:
        if self._scores is None:
            return
        s = contract(x, gradient, channel_dim)
        # Windows or tokens folded into the batch belong to their image.
        s = s.reshape(len(self._scores), -1, s.shape[-1]).sum(1)
        self._scores.index_add_(1, channels.to(s.device), s.to(self._scores.dtype))
