"""Other software's cut networks come back through our own description of them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from polyp_lightning.networks.build import build_net
from polyp_lightning.networks.losses import build_loss
from polyp_lightning.pruning import describe, rebuild

pytest.importorskip("torch_pruning")
SIZE, NET = 64, ("Linknet", "timm-mobilenetv3_small_minimal_100")


def rivals() -> Any:
    path = Path(__file__).parents[1] / "bench" / "rivals.py"
    spec = importlib.util.spec_from_file_location("rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module._HALVINGS = 3
    return module


@pytest.mark.parametrize(
    ("importance", "ranking"),
    [
        ("magnitude", "global"),
        ("taylor", "global"),
        ("hessian", "global"),
        ("taylor", "isomorphic"),
        ("taylor", "local"),
    ],
)
def test_torch_pruning__its_network_comes_back_bit_for_bit(importance: str, ranking: str) -> None:
    torch.manual_seed(0)
    net, one = build_net(*NET, None), rivals()
    names = [name for name, _ in net.named_parameters()]
    held = [id(parameter) for parameter in net.parameters()]
    images, masks = torch.randn(2, 3, SIZE, SIZE), (torch.rand(2, 1, SIZE, SIZE) > 0.5).float()
    dense = one.count_macs(net, SIZE)
    batch, loss = (images, masks), build_loss("dice_bce")
    cut = one.cut_by_torch_pruning(net, importance, ranking, 0.9 * dense, SIZE, [batch], loss)
    assert one.count_macs(cut, SIZE) <= 0.9 * dense
    # From another network's weights, as a checkpoint is read.
    fresh = rebuild(build_net(*NET, None), describe(cut))
    fresh.load_state_dict(cut.state_dict())
    one.bring_back(net, cut)
    with torch.no_grad():
        wanted = cut.eval()(images)
        assert torch.equal(fresh.eval()(images), wanted)
        assert torch.equal(net.eval()(images), wanted)
    assert [name for name, _ in net.named_parameters()] == names
    assert [id(parameter) for parameter in net.parameters()] == held
