"""What holds for the plan of every network and every series of cuts."""

import copy
import json
from typing import Any

import pytest
import torch
from cuts import random_cut
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import SMALL_NETS, randomise
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError

NETS = st.sampled_from(SMALL_NETS)
CUTS = st.lists(st.tuples(st.floats(0, 0.7), st.integers(0, 999)), max_size=3)


def pruned(make: type[nn.Module], cuts: list[tuple[float, int]]) -> nn.Module:
    net = randomise(make())
    for share, seed in cuts:
        graph = pruning.trace(net, (2, 3, 16, 16))
        pruning.remove(net, graph, random_cut(graph, share, seed))
    return net


def sizes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


@settings(max_examples=40, deadline=None)
@given(NETS, CUTS)
def test_plan__is_plain_data_and_rebuilds_the_network(make: type[nn.Module], cuts: list[tuple[float, int]]) -> None:
    net = pruned(make, cuts)
    plan = pruning.describe(net)
    assert json.loads(json.dumps(plan)) == plan, "nothing but tables, lists, whole numbers and strings"
    again = pruning.rebuild(make(), json.loads(json.dumps(plan)))
    assert sizes(again) == sizes(net)
    assert pruning.describe(again) == plan
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))


@settings(max_examples=30, deadline=None)
@given(NETS, CUTS, st.tuples(st.floats(0, 0.7), st.integers(0, 999)))
def test_plan__of_a_later_cut_is_reached_directly_and_by_way_of_an_earlier_one(
    make: type[nn.Module], cuts: list[tuple[float, int]], last: tuple[float, int]
) -> None:
    earlier, later = (pruning.describe(pruned(make, c)) for c in (cuts, [*cuts, last]))
    by_way = pruning.rebuild(pruning.rebuild(make(), earlier), later)
    assert sizes(by_way) == sizes(pruning.rebuild(make(), later))
    assert pruning.describe(by_way) == later
    if later["shapes"] != earlier["shapes"]:
        with pytest.raises(PruningError, match="exceed"):
            pruning.rebuild(pruning.rebuild(make(), later), earlier)


OUT_OF_RANGE = st.one_of(st.integers(max_value=-1), st.integers(min_value=1000), st.floats(), st.booleans(), st.none())


@settings(max_examples=60, deadline=None)
@given(NETS, st.data())
def test_plan__numbers_out_of_range_are_refused_and_change_nothing(make: type[nn.Module], data: Any) -> None:
    net = make()
    plan = copy.deepcopy(pruning.describe(net))
    name = data.draw(st.sampled_from(sorted(name for name, shape in plan["shapes"].items() if shape)))
    plan["shapes"][name][data.draw(st.integers(0, len(plan["shapes"][name]) - 1))] = data.draw(OUT_OF_RANGE)
    before = sizes(net)
    with pytest.raises(PruningError, match=r"damaged|exceed"):
        pruning.rebuild(net, plan)
    assert sizes(net) == before
