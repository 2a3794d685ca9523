"""Networks that can't be cut as asked: refused before anything is trained, or at the latest before a weight is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import fitted
from small_run import SmallNet
from torch import Tensor, nn

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.budget.recipe import Recipe


class Lone(nn.Module):
    """One layer, whose filters are the result."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Thin(nn.Module):
    """A filter that could go, if it were not the last of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Lone, r"nothing in this network can be removed .*none\); take another network, .*target=1"),
        (Thin, r"target 0.500 of the MACs cannot be met: .* the least is 1.000; raise target"),
    ],
)
def test_fit__network_with_nothing_to_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: type[nn.Module], message: str
) -> None:
    steps: list[int] = []

    class Counted(net):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Any:
            steps.append(self.training and torch.is_grad_enabled())
            return super().forward(x)

    with pytest.raises(PruningError, match=message):
        fitted(tmp_path, monkeypatch, [], net=Counted, num_sanity_val_steps=0)
    assert not any(steps), "nothing was trained"
    pruning = TaylorFOPruning(target=1.0)
    fitted(tmp_path, monkeypatch, [], net=net, pruning=pruning, max_epochs=1)


def test_fit__cut_that_would_empty_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No allocation does this: whatever chooses, the network stays whole."""

    def everything(self: Recipe, net: nn.Module, graph: Any, *_: Any) -> Any:
        removed = graph.nothing()
        removed[1:] = True
        return removed

    monkeypatch.setattr(Recipe, "choose", everything)
    net = SmallNet()
    with pytest.raises(PruningError, match=r"would leave no channel in .*keep at least one component of each group"):
        fitted(tmp_path, monkeypatch, [], net=lambda: net, pruning=TaylorFOPruning(0.5, 1, 2, check="never"))  # type: ignore[arg-type]
    assert {name: p.shape for name, p in net.named_parameters()} == {
        name: p.shape for name, p in SmallNet().named_parameters()
    }
