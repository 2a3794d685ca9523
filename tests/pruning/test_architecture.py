import copy
import io

import pytest
import torch
from cuts import random_cut
from small_nets import SMALL_NETS, Concat, Depthwise, Plain, randomise
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError


@pytest.mark.parametrize("make", SMALL_NETS)
def test_rebuild__pruned_net_comes_back_exactly(make: type[nn.Module]) -> None:
    net = randomise(make())
    for seed in (0, 1):
        graph = pruning.trace(net, (2, 3, 16, 16))
        pruning.remove(net, graph, random_cut(graph, 0.3, seed))
    stored = io.BytesIO()
    torch.save({"plan": pruning.describe(net), "weights": net.state_dict()}, stored)
    stored.seek(0)
    read = torch.load(stored, weights_only=True)
    again = pruning.rebuild(make(), read["plan"])
    again.load_state_dict(read["weights"], strict=True)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))
    assert pruning.describe(again) == pruning.describe(net)


def test_rebuild__leaves_a_dense_net_dense() -> None:
    assert pruning.describe(pruning.rebuild(Concat(), pruning.describe(Concat()))) == pruning.describe(Concat())


def plan(**changes: object) -> dict[str, object]:
    return {**copy.deepcopy(pruning.describe(Depthwise())), **changes}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (plan(schema=2), "schema 2; this version reads schema 1"),
        ({}, "schema None"),
        (plan(shapes="none"), "damaged"),
        (plan(groups={"depthwise.0": 0}), "damaged"),
        (plan(shapes={"stem.0.weight": [4, "3", 3, 3]}), "damaged"),
        (pruning.describe(Plain()), "another architecture"),
        (plan(groups={"nowhere": 2}), "another architecture.*nowhere"),
    ],
)
def test_rebuild__a_plan_that_does_not_fit_is_refused(bad: dict[str, object], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        pruning.rebuild(Depthwise(), bad)


def test_rebuild__wider_than_dense_is_refused() -> None:
    bad = plan()
    bad["shapes"]["stem.0.weight"] = [64, 3, 3, 3]  # type: ignore[index]
    with pytest.raises(PruningError, match="exceed"):
        pruning.rebuild(Depthwise(), bad)


@pytest.mark.parametrize("key", ["_parameters", "training", "forward", "nowhere"])
def test_rebuild__sets_no_attribute_that_is_no_number(key: str) -> None:
    with pytest.raises(PruningError, match=rf"stem\.0\.{key}"):
        pruning.rebuild(Depthwise(), plan(sizes={"stem.0": {key: 2}}))
