import pytest
from torch import nn

from polyp_lightning.common.modes import evaluation_mode


def test_evaluation_mode__gives_every_layer_its_mode_back_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.ReLU())).train()
    net[1].eval()
    net[1][1].train()
    before = [layer.training for layer in net.modules()]
    seen = []

    def fail() -> None:
        with evaluation_mode(net):
            seen.extend(layer.training for layer in net.modules())
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fail()
    assert not any(seen)
    assert [layer.training for layer in net.modules()] == before == [True, True, False, False, True]
