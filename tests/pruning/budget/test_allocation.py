import itertools
import time

import numpy as np
import pytest
import segmentation_models_pytorch as smp
from graphs import chain, large

from polyp_lightning import pruning
from polyp_lightning.pruning import Limits
from polyp_lightning.pruning.budget import macs
from polyp_lightning.pruning.budget.allocation import Chunks, Search, Window, by_importance, by_importance_per_cost
from polyp_lightning.pruning.budget.limits import bounds
from polyp_lightning.pruning.budget.optimal import by_predicted_loss


def search_of(graph: pruning.ChannelGraph, importance: np.ndarray, limits: Limits) -> Search:
    return Search(Chunks(graph, importance, bounds(graph, limits)), macs(graph))


def random_case(seed: int) -> tuple[pruning.ChannelGraph, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(2, 5))
    skips = [(0, layers - 1)] if layers > 2 and rng.random() < 0.5 else []
    graph = chain(rng.integers(2, 7, layers).tolist(), (4.0 ** rng.integers(0, 4, layers)).tolist(), skips)
    return graph, rng.random(graph.size) ** rng.choice([1, 3]), float(rng.uniform(0.25, 0.9))


def least_loss(graph: pruning.ChannelGraph, importance: np.ndarray, budget: float) -> float:
    """By trying every combination of widths; within a layer the least important filters go."""
    orders = [g.components[np.argsort(importance[g.components])] for g in graph.groups]
    best = np.inf
    for numbers in itertools.product(*(range(len(order)) for order in orders)):
        removed = graph.nothing()
        for order, number in zip(orders, numbers, strict=True):
            removed[order[:number]] = True
        if graph.total_macs(removed) <= budget:
            best = min(best, importance[removed].sum())
    return float(best)


def test_optimal__near_to_exhaustive_search_and_never_worse_than_a_ranking() -> None:
    ratios, rankings = [], []
    for seed in range(40):
        graph, importance, target = random_case(seed)
        search = search_of(graph, importance, Limits(floor=0.0))
        budget = target * graph.total_macs()
        if search.total(search.chunks.length) > budget:
            continue
        choice, ranked = by_predicted_loss(search, Window(0, budget)), by_importance(search, Window(0, budget))
        assert graph.total_macs(search.chunks.removed(choice)) <= budget
        loss, best = search.chunks.predicted_loss(choice), least_loss(graph, importance, budget)
        assert loss == pytest.approx(importance[search.chunks.removed(choice)].sum())
        assert best - 1e-12 <= loss <= search.chunks.predicted_loss(ranked) + 1e-12
        ratios.append(loss / best)
        rankings.append(search.chunks.predicted_loss(ranked) / best)
    assert len(ratios) > 30
    assert np.mean(ratios) < 1.002
    assert np.mean(rankings) > 1.03


@pytest.mark.parametrize("target", [0.75, 0.5, 0.25])
def test_optimal__is_never_worse_on_a_real_net(target: float) -> None:
    graph = pruning.trace(smp.Unet("resnet18", encoder_weights=None), (2, 3, 64, 64))
    importance = np.random.default_rng(0).random(graph.size) ** 3
    search, budget = search_of(graph, importance, Limits()), target * graph.total_macs()
    ways = (by_predicted_loss, by_importance_per_cost, by_importance)
    losses = [search.chunks.predicted_loss(way(search, Window(0, budget))) for way in ways]
    assert losses[0] <= min(losses[1:])
    assert losses[0] < 0.9 * losses[2]


def test_optimal__worked_by_hand() -> None:
    # Two layers of 2 filters: 3·2 + 2·2 + 2·1 = 12 in units of nine MACs. One filter less in the first: 3 + 2 + 2 = 7;
    # in the second: 6 + 2 + 1 = 9. Half of 12 needs one of each: 3 + 1 + 1 = 5.
    graph = chain([2, 2], [1, 1])
    importance = np.array([0, 0.3, 0.9, 0.1, 0.2])
    search = search_of(graph, importance, Limits(floor=0.0))
    assert by_predicted_loss(search, Window(0, 9 * 7.0)).tolist() == [1, 0]
    assert by_importance(search, Window(0, 9 * 7.0)).tolist() == [
        1,
        0,
    ]  # 0.1 goes first, and comes back once 0.3 has gone
    assert by_predicted_loss(search, Window(0, 9 * 9.0)).tolist() == [0, 1]
    assert by_predicted_loss(search, Window(0, 9 * 6.0)).tolist() == [1, 1]


def test_per_cost__ranks_by_importance_divided_by_what_a_filter_costs() -> None:
    # A filter of the second layer costs 2 + 1 = 3 units, one of the first 3 + 2 = 5.
    graph = chain([2, 2], [1, 1])
    search = search_of(graph, np.array([0, 0.4, 9, 0.3, 9]), Limits(floor=0.0))
    assert search.prices(search.chunks.forced).tolist() == [9 * 5, 9 * 3]
    assert by_importance_per_cost(search, Window(0, 9 * 9.0)).tolist() == [1, 0]  # 0.08 against 0.1
    assert by_importance(search, Window(0, 9 * 9.0)).tolist() == [0, 1]


@pytest.mark.parametrize("allocation", ["global", "per_cost", "optimal"])
def test_select__34_000_components_within_a_second(allocation: pruning.budget.Allocation) -> None:
    graph = large()
    importance = np.random.default_rng(0).random(graph.size)
    start = time.process_time()
    removed = pruning.select(graph, importance, 0.5, allocation=allocation)
    seconds = time.process_time() - start
    assert graph.size > 34_000
    assert graph.total_macs(removed) / graph.total_macs() == pytest.approx(0.5, abs=0.01)
    # About 0.1 s, and 0.3 s for the optimal allocation; processor time, since others may be at work.
    assert seconds < 1
