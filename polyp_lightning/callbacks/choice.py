"""The next cut, chosen before it is made: what goes, and the statistics of batch norm that belong to what is left."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyp_lightning.callbacks.replay import Statistics, renew_norms
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError
from polyp_lightning.pruning import ChannelGraph, Example
from polyp_lightning.pruning.graph import Removed
from polyp_lightning.pruning.surgery import remove


@dataclass(frozen=True)
class Choice:
    """A cut that is still to be made; a checkpoint holds it, since the inputs that it was chosen with are gone later.

    Attributes:
        moment: of the cut, as the schedule counts.
        removed: the components that go.
        statistics: of the network after the cut, and of each of its averages.
    """

    moment: int
    removed: Removed
    statistics: tuple[Statistics, ...]

    def as_dict(self) -> dict[str, Any]:
        """This choice as plain values and tensors."""
        return {
            "moment": self.moment,
            "removed": torch.as_tensor(self.removed),
            "statistics": [dict(one) for one in self.statistics],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Choice":
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError: these are no such values.
        """
        removed, statistics = values["removed"], values["statistics"]
        tensors = [tensor for one in statistics for tensor in one.values()]
        well = isinstance(removed, Tensor) and removed.dtype == torch.bool and removed.ndim == 1
        if type(values["moment"]) is not int or not well or not all(isinstance(t, Tensor) for t in tensors):
            msg = "its next cut"
            raise ValueError(msg)
        return cls(values["moment"], np.asarray(removed.numpy()), tuple(dict(one) for one in statistics))


def try_cut(
    nets: Sequence[nn.Module],
    graph: ChannelGraph,
    removed: Removed,
    calls: Iterable[Example],
    modes: Mapping[str, bool],
) -> tuple[Statistics, ...]:
    """The statistics that batch norm has after a cut, found on copies.

    Args:
        nets: the network and its averages.
        graph: its graph.
        removed: the components that go.
        calls: what the network is called with.
        modes: by module, whether it trains.
    """
    calls, found = list(calls), []
    for net in nets if calls else ():
        twin = copy.deepcopy(net)
        remove(twin, graph, removed)
        found.append(renew_norms(twin, calls, modes))
    return tuple(found)


def set_statistics(nets: Sequence[nn.Module], statistics: Sequence[Statistics]) -> None:
    """Gives the batch norms of networks the statistics that were found on copies.

    Raises:
        ConfigError: a checkpoint's statistics do not fit the networks.
    """
    buffers = [dict(net.named_buffers()) for net in nets]
    pairs = [
        (own.get(name), value) for own, one in zip(buffers, statistics, strict=False) for name, value in one.items()
    ]
    if len(nets) != len(statistics) or not all(own is not None and _fits(value, own) for own, value in pairs):
        msg = f"the checkpoint's record of its next cut is damaged (statistics of batch norm); {ANOTHER_CHECKPOINT}"
        raise ConfigError(msg)
    with torch.no_grad():
        for own, value in pairs:
            own.copy_(value)  # type: ignore[union-attr]


def _fits(value: Tensor, own: Tensor) -> bool:
    same = value.shape == own.shape and value.dtype == own.dtype and value.layout == own.layout
    return same and bool(value.isfinite().all())
