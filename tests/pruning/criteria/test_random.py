import numpy as np
from hand import Line, traced
from small_nets import Concat

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.random import RandomOrder


def test_random__same_seed_same_order() -> None:
    graph = traced(Line())
    first, again, other = (RandomOrder(seed).importance(Line(), graph) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random__is_spread_over_the_unit_interval() -> None:
    net = Concat(times=20)
    importance = RandomOrder().importance(net, pruning.trace(net, (2, 3, 8, 8)))[1:]
    # Of 380 draws the mean is within 0.5 ± 5 × 0.289/√380.
    assert abs(importance.mean() - 0.5) < 0.075
    assert len(np.unique(importance)) == len(importance)
