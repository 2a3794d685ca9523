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
    module._HALVINGS = 2
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


def test_fasterai__its_network_comes_back_and_the_optimizer_follows() -> None:
    schedule = pytest.importorskip("fasterai.core.schedule", reason="fasterai is in no extra")
    torch.manual_seed(0)
    net, one = build_net(*NET, None).train(), rivals()
    images, dense = torch.randn(2, 3, SIZE, SIZE), one.count_macs(net, SIZE)
    optimizer = torch.optim.AdamW(net.parameters())
    pruner = one.build_fasterai_pruner(net, 0.5, SIZE, schedule.sched_agp, 3)
    for _ in range(3):
        net.train()(images).square().mean().backward()
        optimizer.step()
        before = {id(parameter): optimizer.state[parameter]["exp_avg"] for parameter in net.parameters()}
        moves = one.prune_and_follow(pruner)
        one.repoint(optimizer, moves)
        for old, new, kept, dimension in moves:
            before[id(new)] = before[id(old)].index_select(dimension, torch.tensor(kept))
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert [id(parameter) for parameter in held] == [id(parameter) for parameter in net.parameters()]
        assert all(torch.equal(optimizer.state[parameter]["exp_avg"], before[id(parameter)]) for parameter in held)
    assert one.count_macs(net, SIZE) < 0.5 * dense
    fresh = rebuild(build_net(*NET, None), describe(net))
    fresh.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(images), net.eval()(images))
