import numpy as np
import pytest
from graphs import chain
from small_nets import Residual

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning import Limits
from polyp_lightning.pruning.budget.limits import Bounds, bounds

GRAPH = chain([10, 20, 40], [1, 1, 1])


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(floor=0.0), [(1, 10), (1, 20), (1, 40)]),
        (Limits(floor=0.25), [(3, 10), (5, 20), (10, 40)]),
        (Limits(floor=0.1, ceiling=0.5), [(1, 5), (2, 10), (4, 20)]),
        (Limits(floor=0.25, round_to=8), [(8, 10), (8, 20), (16, 40)]),
        (Limits(floor=0.0, ceiling=0.7, round_to=8), [(8, 8), (8, 8), (8, 24)]),
        (Limits(floor=0.1, protected=("layer1",)), [(1, 10), (20, 20), (4, 40)]),
        (Limits(floor=0.1, floors={"layer[01]": 0.5, "layer1": 0.9}), [(5, 10), (18, 20), (4, 40)]),
        (Limits(floor=0.0, ceilings={"*2": 0.3}), [(1, 10), (1, 20), (1, 12)]),
    ],
)
def test_bounds__worked_by_hand(limits: Limits, expected: list[tuple[int, int]]) -> None:
    assert [(b.least, b.most) for b in bounds(GRAPH, limits)] == expected


def test_bounds__ceilings_come_down_with_the_schedule() -> None:
    assert bounds(GRAPH, Limits(ceiling=0.5), left=0.5)[2] == Bounds(4, 30)


def test_bounds__are_shares_of_the_dense_widths() -> None:
    dense = {"layer0": 20, "layer1": 20, "layer2": 80}
    assert [b.least for b in bounds(GRAPH, Limits(floor=0.25), dense)] == [5, 5, 20]


def test_bounds__a_cheap_multiple_binds_where_there_is_room_for_two() -> None:
    assert [b.step for b in bounds(GRAPH, Limits(round_to=4), step=16)] == [4, 4, 16]


def test_bounds__any_layer_of_a_coupled_stream_stands_for_it() -> None:
    graph = pruning.trace(Residual(), (2, 3, 16, 16))
    names = [group.name for group in graph.groups]
    stream = names.index("stem.0")
    for pattern in ("stem.0", "stem", "branches.1.1", "branches.1.2"):
        kept = bounds(graph, Limits(protected=(pattern,)))
        assert kept[stream] == Bounds(6, 6)
        # A block's name protects what is in the block: both of its layers share the stream or are inner ones.
        assert [b.least for i, b in enumerate(kept) if i != stream and pattern == "stem.0"] in ([], [1, 1])


def test_bounds__a_layer_that_is_frozen_anyway_may_be_protected() -> None:
    graph = pruning.trace(Residual(), (2, 3, 16, 16))
    assert bounds(graph, Limits(protected=("head",))) == bounds(graph, Limits())


def test_bounds__pattern_that_fits_nothing_lists_what_is_near() -> None:
    with pytest.raises(PruningError, match=r"'layr1\*' fits no layer .* near to it are layer1"):
        bounds(GRAPH, Limits(protected=("layr1*",)))
    with pytest.raises(PruningError, match=r"'xyz' fits no layer .* its layers are layer0"):
        bounds(GRAPH, Limits(floors={"xyz": 0.5}))


def test_bounds__floor_above_its_ceiling_is_refused() -> None:
    with pytest.raises(PruningError, match=r"layer1 has a floor of 0\.6 above its ceiling of 0\.5"):
        bounds(GRAPH, Limits(floor=0.1, ceiling=0.5, floors={"layer1": 0.6}))


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"floor": 1.1}, "floor"),
        ({"ceiling": 0.0}, "ceiling"),
        ({"round_to": 0}, "round_to"),
        ({"floors": {"a": -1}}, "a"),
    ],
)
def test_limits__what_cannot_be_is_refused(options: dict[str, object], flag: str) -> None:
    with pytest.raises(PruningError, match=flag):
        Limits(**options)  # type: ignore[arg-type]


def test_select__protected_layers_stay() -> None:
    removed = pruning.select(GRAPH, np.zeros(GRAPH.size), 0.6, limits=Limits(protected=("layer2",)))
    assert not removed[GRAPH.groups[2].components].any()
    assert GRAPH.total_macs(removed) / GRAPH.total_macs() == pytest.approx(0.6, abs=0.01)
