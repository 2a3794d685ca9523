"""TaylorFO on weights: the squared first-order change when all weights that make a component become zero."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from polyp_lightning.pruning.criteria.base import Importance, WatchingCriterion, to_float64
from polyp_lightning.pruning.criteria.filters import components_along, making_dim, put_unseen_last
from polyp_lightning.pruning.criteria.taylor_hooks import wide
from polyp_lightning.pruning.graph import ChannelGraph


class TaylorWeight(WatchingCriterion):
    """Mean over backward passes of (Σ w · ∂L/∂w)², the sum over all parameters that make the component.

    "Importance Estimation for Neural Network Pruning", Molchanov et al., CVPR 2019 (doi:10.1109/CVPR.2019.01152), with
    the joint contribution of a filter's weights, and as there one term for each batch, not for each image. A component
    made by several layers sums over all their weights, biases and norm parameters before the square: they leave
    together. Behind a batch norm in training mode a filter's weights add nothing, because its scale does not matter;
    what is left is γ·∂L/∂γ + β·∂L/∂β, their variant "Taylor-FO-BN".

    Components without a trainable parameter come last.
    """

    name: ClassVar[str] = "taylor_weight"
    counted: ClassVar[str] = "steps"

    def _watch(self, net: nn.Module, graph: ChannelGraph) -> Callable[[], None]:
        makers = _making_parameters(net, graph)
        components = [torch.as_tensor(graph.axes[name][dim], device=made.device) for name, made, dim in makers]
        seen: dict[int, Tensor] = {}

        def finish() -> None:
            products = to_float64(torch.cat(list(seen.values())))
            places = torch.cat([components[number] for number in seen]).to(products.device)
            change = products.new_zeros(graph.size).index_add_(0, places, products)
            seen.clear()
            self._add((change / self.loss_scale).square(), 1)

        def add(number: int, parameter: Tensor, dim: int, gradient: Tensor) -> None:
            if not seen:
                torch.autograd.Variable._execution_engine.queue_callback(finish)
            seen[number] = sum_products(parameter.detach(), gradient, dim)

        handles = [
            parameter.register_hook(partial(add, number, parameter, dim))
            for number, (_, parameter, dim) in enumerate(makers)
        ]

        def unwatch() -> None:
            for handle in handles:
                handle.remove()

        return unwatch

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns the mean, of components with a trainable parameter."""
        mean = super().importance(net, graph)
        seen = components_along(graph, ((name, dim) for name, _, dim in _making_parameters(net, graph)))
        return put_unseen_last(mean, seen, self.name)


def _making_parameters(net: nn.Module, graph: ChannelGraph) -> list[tuple[str, Tensor, int]]:
    """Returns the trainable parameters that make components: name, parameter, dimension along which they do."""
    found = ((name, parameter, making_dim(graph, name)) for name, parameter in net.named_parameters())
    return [(name, parameter, dim) for name, parameter, dim in found if dim is not None and parameter.requires_grad]


def sum_products(weight: Tensor, gradient: Tensor, dim: int) -> Tensor:
    """Returns Σ weight · gradient over all but one dimension: (weight.shape[dim],), float32 or wider."""
    rest = [d for d in range(weight.ndim) if d != dim]
    product = weight.to(wide(weight)) * gradient.to(wide(weight))
    return product.sum(rest) if rest else product
