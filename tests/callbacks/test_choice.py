"""What a checkpoint holds of the next cut is checked before anything is set."""

import pytest
import torch
from torch import nn

from polyp_lightning.callbacks.choice import set_statistics
from polyp_lightning.common.errors import ConfigError

GOOD = {"0.running_mean": torch.arange(3.0), "0.running_var": torch.full((3,), 2.0)}


def test_set_statistics__of_every_network() -> None:
    nets = [nn.Sequential(nn.BatchNorm2d(3)) for _ in range(2)]
    set_statistics(nets, [GOOD, {name: value + 1 for name, value in GOOD.items()}])
    assert torch.equal(nets[0][0].running_mean, torch.arange(3.0))
    assert torch.equal(nets[1][0].running_var, torch.full((3,), 3.0))


@pytest.mark.parametrize(
    "statistics",
    [
        pytest.param([GOOD, GOOD], id="of more networks"),
        pytest.param([GOOD | {"1.running_mean": torch.zeros(3)}], id="of another network"),
        pytest.param([GOOD | {"0.running_var": torch.zeros(0)}], id="empty"),
        pytest.param([GOOD | {"0.running_var": torch.zeros(1)}], id="broadcast"),
        pytest.param([GOOD | {"0.running_var": torch.zeros(3, dtype=torch.int64)}], id="of another type"),
        pytest.param([GOOD | {"0.running_var": torch.tensor([1, torch.nan, 1])}], id="not finite"),
    ],
)
def test_set_statistics__damaged_ones_are_refused_and_nothing_is_set(statistics: list[dict[str, torch.Tensor]]) -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    with pytest.raises(ConfigError, match="record of its next cut is damaged"):
        set_statistics([net], statistics)
    assert torch.equal(net[0].running_mean, torch.zeros(3))
