import numpy as np
import pytest
import torch
from small_nets import SMALL_NETS, Concat, Depthwise, Residual, SigmoidFeature
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.pruning.budget import Cost, macs, parameters, total
from polyp_lightning.pruning.budget.allocation import Chunks, Search
from polyp_lightning.pruning.budget.cost import full_widths
from polyp_lightning.pruning.budget.limits import Limits, bounds

CUTTABLE = [make for make in SMALL_NETS if make is not SigmoidFeature]


def traced(make: type[nn.Module]) -> tuple[nn.Module, pruning.ChannelGraph]:
    torch.manual_seed(0)
    net = make()
    return net, pruning.trace(net, (2, 3, 16, 16))


def random_choice(graph: pruning.ChannelGraph, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    removed = graph.nothing()
    for group in graph.groups:
        removed[rng.permutation(group.components)[: rng.integers(0, len(group.components))]] = True
    return removed


@pytest.mark.parametrize("make", CUTTABLE)
def test_parameters__are_those_of_the_cut_network(make: type[nn.Module]) -> None:
    net, graph = traced(make)
    removed = random_choice(graph)
    expected = total(parameters(graph), removed)
    pruning.remove(net, graph, removed)
    assert expected == sum(p.numel() for name, p in net.named_parameters() if name in graph.executed)


@pytest.mark.parametrize("make", CUTTABLE)
def test_macs__are_those_of_the_graph_of_the_cut_network(make: type[nn.Module]) -> None:
    net, graph = traced(make)
    removed = random_choice(graph)
    expected = total(macs(graph), removed)
    pruning.remove(net, graph, removed)
    assert expected == pruning.trace(net, (2, 3, 16, 16)).total_macs()


@pytest.mark.parametrize("make", [Residual, Concat, Depthwise])
def test_slopes__equal_a_central_difference(make: type[nn.Module]) -> None:
    cost = macs(traced(make)[1])
    widths, eye = full_widths(cost), np.eye(len(cost.axes))
    # A product of distinct widths is linear in each; a square's central difference is exact too.
    around = cost.of_widths(widths[:, None] + 0.5 * eye) - cost.of_widths(widths[:, None] - 0.5 * eye)
    assert cost.slopes(widths).tolist() == pytest.approx(around.tolist(), rel=1e-9)


@pytest.mark.parametrize("make", CUTTABLE)
@pytest.mark.parametrize("cost_of", [macs, parameters])
def test_search__costs_of_choices_are_those_of_components(make: type[nn.Module], cost_of: object) -> None:
    graph = traced(make)[1]
    rng = np.random.default_rng(0)
    cost: Cost = cost_of(graph)  # type: ignore[operator]
    chunks = Chunks(graph, rng.random(graph.size), bounds(graph, Limits(floor=0.0, round_to=2)))
    search = Search(chunks, cost)
    choice = rng.integers(0, chunks.length + 1)
    assert search.total(choice) == total(cost, chunks.removed(choice))
    one = np.arange(len(choice))
    for numbers, sign in ((search.next_chunks(choice), 1), (search.last_chunks(choice), -1)):
        neighbours = [choice + sign * (one == chunks.group[chunk]) for chunk in numbers]
        assert search.after(choice, numbers, -sign).tolist() == [total(cost, chunks.removed(n)) for n in neighbours]
