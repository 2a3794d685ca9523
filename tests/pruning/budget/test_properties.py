"""What holds for every graph, importance, target and limit."""

import warnings
from typing import get_args

import numpy as np
import pytest
from graphs import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning import ChannelGraph, Dense, Limits, Target, select
from polyp_lightning.pruning.budget import UNITS, Allocation, total
from polyp_lightning.pruning.budget.limits import bounds
from polyp_lightning.pruning.graph import Removed

ALLOCATIONS = st.sampled_from(get_args(Allocation))


@st.composite
def graphs(draw: st.DrawFn, least: int = 1) -> ChannelGraph:
    widths = draw(st.lists(st.integers(least, 24), min_size=1, max_size=6))
    positions = [4.0 ** draw(st.integers(0, 3)) for _ in widths]
    pairs = [(a, b) for b in range(2, len(widths)) for a in range(b - 1)]
    skips = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3)) if pairs else []
    return chain(widths, positions, skips)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    floor = draw(st.floats(0, 0.6))
    protected = draw(st.sampled_from([(), ("layer0",), ("layer*",)]))
    return Limits(floor, draw(st.floats(floor, 1).filter(bool)), draw(st.sampled_from([1, 2, 8])), protected)


def importance_of(graph: ChannelGraph, seed: int) -> np.ndarray:
    """With ties, and sometimes below zero, as signed importances are."""
    return np.random.default_rng(seed).integers(-1, 5, graph.size).astype(np.float64) ** 3


def chosen(graph: ChannelGraph, importance: np.ndarray, target: Target, **options: object) -> tuple[Removed, bool]:
    """The choice, and whether it came with a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        removed = select(graph, importance, target, **options)  # type: ignore[arg-type]
    return removed, bool(caught)


@settings(max_examples=200, deadline=None)
@given(
    graph=graphs(),
    bound=limits(),
    share=st.floats(0.05, 1),
    unit=st.sampled_from([unit for unit in UNITS if UNITS[unit].is_share]),
    seed=st.integers(0, 99),
    way=ALLOCATIONS,
)
def test_select__keeps_to_its_limits_and_meets_its_target_or_says_so(
    graph: ChannelGraph, bound: Limits, share: float, unit: str, seed: int, way: Allocation
) -> None:
    target, importance = Target(share, unit), importance_of(graph, seed)
    cost = UNITS[unit].cost(graph)
    dense = total(cost, graph.nothing())
    try:
        removed, warned = chosen(graph, importance, target, limits=bound, allocation=way)
    except PruningError as error:
        assert "cannot be met" in str(error)  # noqa: PT017  either outcome is right
        return
    assert not removed[0]
    for group, allowed in zip(graph.groups, bounds(graph, bound), strict=True):
        flags = removed[group.components]
        kept, gone = importance[group.components[~flags]], importance[group.components[flags]]
        assert allowed.least <= len(kept) <= allowed.most
        assert len(kept) == len(group.components) or len(kept) % bound.round_to == 0
        # Within a layer the least important filters go, whatever the allocation.
        assert not len(gone) or gone.max() <= kept.min()
    got = total(cost, removed) / dense
    assert warned == (abs(got - share) > 0.01 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(graph=graphs(), share=st.floats(0.3, 1), seed=st.integers(0, 99), way=ALLOCATIONS)
def test_select__is_deterministic_and_blind_to_a_scale_of_the_importance(
    graph: ChannelGraph, share: float, seed: int, way: Allocation
) -> None:
    importance, free = importance_of(graph, seed), Limits(floor=0.0)
    try:
        first = chosen(graph, importance, Target(share), limits=free, allocation=way)[0]
    except PruningError:
        return
    # A power of two leaves every digit as it is.
    for again in (importance, 4 * importance):
        assert (chosen(graph, again, Target(share), limits=free, allocation=way)[0] == first).all()


@settings(max_examples=50, deadline=None)
@given(
    graph=graphs(least=8),
    shares=st.tuples(st.floats(0.2, 0.9), st.floats(0.05, 0.5)),
    seed=st.integers(0, 99),
    way=ALLOCATIONS,
)
def test_select__less_is_left_for_a_smaller_target(
    graph: ChannelGraph, shares: tuple[float, float], seed: int, way: Allocation
) -> None:
    importance = np.abs(importance_of(graph, seed))
    large, small = max(shares), min(shares)
    try:
        (more, warned), (less, also) = (
            chosen(graph, importance, Target(s), limits=Limits(floor=0.0), allocation=way) for s in (large, small)
        )
    except PruningError:
        return
    if not warned and not also and large - small > 0.01:
        assert graph.total_macs(less) <= graph.total_macs(more)


@settings(max_examples=50, deadline=None)
@given(graph=graphs(least=8), share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_select__optimal_predicts_no_more_loss_than_a_ranking_at_the_same_budget(
    graph: ChannelGraph, share: float, seed: int
) -> None:
    importance, budget = np.abs(importance_of(graph, seed)), share * graph.total_macs()
    try:
        choices = {way: chosen(graph, importance, Target(share), allocation=way) for way in get_args(Allocation)}
    except PruningError:
        return
    fits = [removed for removed, warned in choices.values() if graph.total_macs(removed) <= budget and not warned]
    best, warned = choices["optimal"]
    if fits and not warned:
        assert importance[best].sum() <= min(importance[removed].sum() for removed in fits) + 1e-9


@settings(max_examples=50, deadline=None)
@given(graph=graphs(least=12), share=st.floats(0.2, 0.8), cuts=st.integers(2, 5), seed=st.integers(0, 99))
def test_select__a_schedule_comes_down_to_the_target(graph: ChannelGraph, share: float, cuts: int, seed: int) -> None:
    target, dense, importance = Target(share), Dense.of(graph), importance_of(graph, seed)
    costs = []
    for cut in range(1, cuts + 1):
        try:
            removed, warned = chosen(graph, importance, target, dense=dense, left=1 - cut / cuts)
        except PruningError:
            return
        if warned:
            return
        costs.append(graph.total_macs(removed) / dense.cost("macs"))
    assert costs == pytest.approx([1 + (share - 1) * cut / cuts for cut in range(1, cuts + 1)], abs=0.01)
