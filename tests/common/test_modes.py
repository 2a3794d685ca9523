import pytest
from torch import nn

from polyp_lightning.common.modes import evaluation_mode


def test_evaluation_mode__gives_every_layer_its_mode_back_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.ReLU())).train()
    net[1].eval()
    net[1][1].train()
    before = [layer.training for layer in net.modules()]
    with pytest.raises(ValueError, match="enough"), evaluation_mode(net):
        assert not any(layer.training for layer in net.modules())
        raise ValueError("enough")
    assert [layer.training for layer in net.modules()] == before == [True, True, False, False, True]
