import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import SMALL_NETS, Plain, SigmoidFeature

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning import Dense, Limits


@pytest.fixture(scope="module")
def unet() -> pruning.ChannelGraph:
    return pruning.trace(smp.Unet("resnet18", encoder_weights=None), (2, 3, 64, 64))


def random_importance(graph: pruning.ChannelGraph, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(graph.size)


@settings(max_examples=40, deadline=None)
@given(target=st.floats(0.15, 1.0), seed=st.integers(0, 9), round_to=st.sampled_from([1, 4, 8]))
def test_select__target_is_met_within_one_percent(target: float, seed: int, round_to: int) -> None:
    graph = GRAPH
    removed = pruning.select(graph, random_importance(graph, seed), target, limits=Limits(round_to=round_to))
    assert abs(graph.total_macs(removed) / graph.total_macs() - target) <= 0.01
    for group in graph.groups:
        kept = int((~removed[group.components]).sum())
        assert kept >= max(1, int(np.ceil(0.1 * len(group.components))))
        assert kept == len(group.components) or kept % round_to == 0


GRAPH = pruning.trace(smp.Unet("resnet18", encoder_weights=None), (2, 3, 64, 64))


def test_select__least_important_goes_first(unet: pruning.ChannelGraph) -> None:
    importance = random_importance(unet, 3)
    removed = pruning.select(unet, importance, 0.5, limits=Limits(floor=0.0))
    # Only the few chunks that make the target exact may stand out of order.
    threshold = np.sort(importance[1:])[int(removed.sum())]
    assert ((importance < threshold)[1:] != removed[1:]).mean() < 0.01


def test_select__ties_do_not_overshoot(unet: pruning.ChannelGraph) -> None:
    removed = pruning.select(unet, np.zeros(unet.size), 0.4)
    assert unet.total_macs(removed) / unet.total_macs() == pytest.approx(0.4, abs=0.01)


def test_select__reference_is_the_dense_net(unet: pruning.ChannelGraph) -> None:
    removed = pruning.select(unet, random_importance(unet, 0), 0.25, dense=Dense({"macs": 2 * unet.total_macs()}))
    assert unet.total_macs(removed) / unet.total_macs() == pytest.approx(0.5, abs=0.02)


def test_select__floor_is_a_share_of_the_dense_layer(unet: pruning.ChannelGraph) -> None:
    doubled = {name: 2 * width for name, width in unet.widths().items()}
    removed = pruning.select(
        unet,
        random_importance(unet, 0),
        0.5,
        dense=Dense({"macs": unet.total_macs()}, doubled),
        limits=Limits(floor=0.3),
    )
    kept = [(~removed[g.components]).sum() / len(g.components) for g in unet.groups]
    assert 0.6 <= min(kept) < 0.65


def test_select__nothing_to_do(unet: pruning.ChannelGraph) -> None:
    assert not pruning.select(unet, random_importance(unet, 0), 1.0).any()


def test_select__target_below_the_floor_is_explained(unet: pruning.ChannelGraph) -> None:
    with pytest.raises(PruningError, match=r"target 0\.050 .* at least 50% .* the least is 0\.\d+; .*lower floor"):
        pruning.select(unet, random_importance(unet, 0), 0.05, limits=Limits(floor=0.5))


def test_select__coarse_chunks_are_explained() -> None:
    graph = pruning.trace(Plain(), (2, 3, 16, 16))
    with pytest.warns(UserWarning, match=r"nearest to a budget of 0\.600 .*lower round_to"):
        removed = pruning.select(graph, random_importance(graph, 0), 0.6, limits=Limits(round_to=4))
    reachable = [graph.total_macs(r) / graph.total_macs() for r in halves(graph)]
    assert graph.total_macs(removed) / graph.total_macs() in reachable


def halves(graph: pruning.ChannelGraph) -> list[np.ndarray]:
    """Every choice that leaves a multiple of four: 8 or 4 of the first layer, 6 or 4 of the second."""
    choices = []
    for first in (0, 4):
        for second in (0, 2):
            removed = graph.nothing()
            removed[graph.axes["first.0.weight"][0][:first]] = True
            removed[graph.axes["second.0.weight"][0][:second]] = True
            choices.append(removed)
    return choices


@pytest.mark.parametrize("target", [0.0, -0.1, 1.5])
def test_select__target_outside_its_range_is_refused(unet: pruning.ChannelGraph, target: float) -> None:
    with pytest.raises(PruningError, match="share of the dense MACs"):
        pruning.select(unet, random_importance(unet, 0), target)


def test_select__importance_that_are_not_finite_are_refused(unet: pruning.ChannelGraph) -> None:
    importance = random_importance(unet, 0)
    importance[5] = np.nan
    with pytest.raises(PruningError, match="not finite"):
        pruning.select(unet, importance, 0.5)


def test_select__net_with_nothing_to_prune_is_explained() -> None:
    assert SigmoidFeature in SMALL_NETS
    graph = pruning.trace(SigmoidFeature(), (2, 3, 16, 16))
    with pytest.raises(PruningError, match="nothing in this network can be removed"):
        pruning.select(graph, random_importance(graph, 0), 0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_select__takes_tensors(unet: pruning.ChannelGraph, dtype: torch.dtype) -> None:
    importance = torch.from_numpy(random_importance(unet, 1)).to(dtype).requires_grad_()
    removed = pruning.select(unet, importance, 0.5)
    expected = pruning.select(unet, importance.detach().to(torch.float64).numpy(), 0.5)
    np.testing.assert_array_equal(removed, expected)
    with pytest.raises(PruningError, match="not finite"):
        pruning.select(unet, importance * torch.nan, 0.5)
