import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from fake_timer import FakeTimer
from small_nets import SMALL_NETS, Grouped, SigmoidFeature
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.budget import total
from polyp_lightning.pruning.budget.cost import full_widths
from polyp_lightning.pruning.budget.geometry import Geometry, layer_calls
from polyp_lightning.pruning.budget.latency import LatencyTable, LayerTimes, TableCost
from polyp_lightning.pruning.budget.profiling import cut_copy, measure_table, preferred_step
from polyp_lightning.pruning.budget.timed import Bracket, select_for_time
from polyp_lightning.pruning.budget.timer import TorchTimer

SHAPE = (1, 3, 64, 64)


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    torch.manual_seed(0)
    return smp.Unet("mobilenet_v2", encoder_weights=None).train()


@pytest.fixture(scope="module")
def graph(unet: nn.Module) -> pruning.ChannelGraph:
    return pruning.trace(unet, (2, *SHAPE[1:]))


@pytest.fixture(scope="module")
def table(unet: nn.Module, graph: pruning.ChannelGraph) -> LatencyTable:
    return measure_table(unet, graph, SHAPE, FakeTimer())


@pytest.fixture(scope="module")
def cost(unet: nn.Module, graph: pruning.ChannelGraph, table: LatencyTable) -> TableCost:
    return TableCost.of(table, unet, graph, SHAPE)


def importance_of(graph: pruning.ChannelGraph, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(graph.size) ** 2


@pytest.mark.parametrize("step", [1, 4, 8, 16])
def test_preferred_step__is_that_of_the_machine(step: int) -> None:
    assert preferred_step(FakeTimer(step)) == step


@pytest.mark.parametrize("target", [0.9, 0.5, 0.2])
def test_table__predicts_what_the_timer_measures(
    unet: nn.Module, graph: pruning.ChannelGraph, cost: TableCost, target: float
) -> None:
    removed = pruning.select(graph, importance_of(graph), target)
    measured = FakeTimer()(cut_copy(unet, graph, removed), SHAPE)
    assert total(cost, removed) == pytest.approx(measured, rel=0.03)
    assert total(cost, graph.nothing()) == pytest.approx(FakeTimer()(cut_copy(unet, graph, graph.nothing()), SHAPE))


@pytest.mark.filterwarnings("ignore:the nearest to a budget")
@pytest.mark.parametrize("make", [make for make in SMALL_NETS if make is not SigmoidFeature])
def test_table__of_every_kind_of_coupling(make: type[nn.Module]) -> None:
    net = make()
    graph, shape = pruning.trace(net, (2, 3, 16, 16)), (1, 3, 16, 16)
    table = measure_table(net, graph, shape, FakeTimer(1), step=1)
    removed = pruning.select(graph, importance_of(graph), 0.7, limits=pruning.Limits(floor=0.0))
    predicted = total(TableCost.of(table, net, graph, shape), removed)
    assert predicted == pytest.approx(FakeTimer(1)(cut_copy(net, graph, removed), shape), rel=0.03)


def test_table__falls_with_every_width_and_has_its_slope(cost: TableCost) -> None:
    full = full_widths(cost)
    widths = np.where(full > 24, full - 8, full)
    less = np.maximum(widths[:, None] - 8 * np.eye(len(widths)), 1)
    saved = cost.of_widths(widths[:, None]) - cost.of_widths(less)
    assert (saved >= 0).all()
    assert (cost.slopes(widths) >= 0).all()
    # Products of widths are smooth but for the steps: a slope is the mean over a step up and one down.
    more = widths[:, None] + 8 * np.eye(len(widths))
    around = (cost.of_widths(more) - cost.of_widths(less))[full > 24] / 16
    assert cost.slopes(widths)[full > 24].tolist() == pytest.approx(around.tolist(), rel=0.02)


def test_layer_calls__a_grouped_layer_is_built_as_it_shrinks() -> None:
    graph = pruning.trace(Grouped(), (2, 3, 16, 16))
    for call in layer_calls(Grouped(), graph, (1, 3, 16, 16)):
        first, second = (len(axis) for axis in graph.axes[call.weight][:2])
        layer, shape = call.geometry.layer(first, second)
        assert layer.weight.shape == dict(Grouped().named_parameters())[call.weight].shape
        assert layer(torch.zeros(shape)).numel() == call.positions * first


def test_select__meets_predicted_milliseconds(graph: pruning.ChannelGraph, cost: TableCost) -> None:
    dense = total(cost, graph.nothing())
    target = pruning.Target(0.5 * dense, "ms")
    for allocation in ("global", "per_cost", "optimal"):
        removed = pruning.select(graph, importance_of(graph), target, cost=cost, allocation=allocation)
        assert 0.49 * dense <= total(cost, removed) <= 0.5 * dense


def test_select__rounds_up_to_what_is_as_fast(graph: pruning.ChannelGraph, cost: TableCost) -> None:
    target = pruning.Target(0.5 * total(cost, graph.nothing()), "ms")
    removed = pruning.select(graph, importance_of(graph), target, cost=cost)
    kept = [(len(g.components), int((~removed[g.components]).sum())) for g in graph.groups]
    assert any(0 < after < before for before, after in kept)
    assert all(after % 8 == 0 or after == before for before, after in kept if before >= 16)


def test_select__milliseconds_need_a_table(graph: pruning.ChannelGraph) -> None:
    with pytest.raises(PruningError, match="latency table"):
        pruning.select(graph, importance_of(graph), pruning.Target(1.0, "ms"))


@pytest.mark.parametrize("with_table", [True, False])
@pytest.mark.parametrize("share", [0.7, 0.4])
def test_select_for_time__is_met_as_measured(
    unet: nn.Module, graph: pruning.ChannelGraph, cost: TableCost, share: float, with_table: bool
) -> None:
    before, timer = copy.deepcopy(unet.state_dict()), FakeTimer(spread=0.01)
    dense_ms = timer(cut_copy(unet, graph, graph.nothing()), SHAPE)
    chosen = select_for_time(
        unet, graph, importance_of(graph), share * dense_ms, timer, SHAPE, cost=cost if with_table else None
    )
    again = FakeTimer()(cut_copy(unet, graph, chosen.removed), SHAPE)
    assert again == pytest.approx(share * dense_ms, rel=0.05)
    assert chosen.ms == pytest.approx(0.99 * again)
    assert len(chosen.tried) <= 6
    # The network itself is neither measured nor changed.
    assert all(net is not unet for net in timer.measured)
    assert unet.training
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_select_for_time__one_slow_moment_does_not_mislead(
    unet: nn.Module, graph: pruning.ChannelGraph, cost: TableCost
) -> None:
    timer = FakeTimer()
    timer.signs = itertools.cycle((1, 1, 1.6, 1))
    ms = 0.5 * FakeTimer()(cut_copy(unet, graph, graph.nothing()), SHAPE)
    chosen = select_for_time(unet, graph, importance_of(graph), ms, timer, SHAPE, cost=cost)
    assert FakeTimer()(cut_copy(unet, graph, chosen.removed), SHAPE) == pytest.approx(ms, rel=0.05)


def test_select_for_time__nothing_to_do(unet: nn.Module, graph: pruning.ChannelGraph) -> None:
    chosen = select_for_time(unet, graph, importance_of(graph), 1e6, FakeTimer(), SHAPE)
    assert not chosen.removed.any()
    assert chosen.tried == ()


def test_select_for_time__out_of_reach_is_explained(unet: nn.Module, graph: pruning.ChannelGraph) -> None:
    dense_ms = FakeTimer()(cut_copy(unet, graph, graph.nothing()), SHAPE)
    limits = pruning.Limits(floor=0.8)
    with pytest.raises(PruningError, match=r"cannot be met: with at least 80% .* a frame takes .* ms.*lower floor"):
        select_for_time(unet, graph, importance_of(graph), 0.1 * dense_ms, FakeTimer(), SHAPE, limits=limits)


@pytest.mark.parametrize("wanted", [20.0, 45.0, 80.0])
def test_bracket__finds_its_way_on_a_curve(wanted: float) -> None:
    bracket = Bracket(0.05, wanted, 100.0)
    while not bracket.tried or (not bracket.done and len(bracket.tried) < 6):
        share = bracket.next()
        bracket.add(share, 10 + 90 * share**1.5)
    assert bracket.tried[-1][1] == pytest.approx(wanted, rel=0.02)


def test_table__goes_through_its_file(table: LatencyTable, tmp_path: Path) -> None:
    table.save(tmp_path / "sub" / "table.json")
    assert LatencyTable.load(tmp_path / "sub" / "table.json", FakeTimer().conditions) == table


def test_load__other_conditions_are_refused(table: LatencyTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table.json")
    here = {**FakeTimer().conditions, "threads": 2, "machine": "another"}
    with pytest.raises(PruningError, match=r"machine 'none' instead of 'another'; threads 1 instead of 2; measure"):
        LatencyTable.load(tmp_path / "table.json", here)


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", '{"schema": 1, "layers": {}}', '{"schema": 1, "layers": {"a": 1}}']
)
def test_load__what_is_no_table_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "table.json").write_text(text)
    with pytest.raises(PruningError, match="not a latency table"):
        LatencyTable.load(tmp_path / "table.json", {})


def test_load__another_schema_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(PruningError, match="schema 99"):
        LatencyTable.load(path, FakeTimer().conditions)


def test_table_cost__layers_without_times_are_named(unet: nn.Module, graph: pruning.ChannelGraph) -> None:
    empty = LatencyTable({}, 1, 0.0, 0.0, {})
    with pytest.raises(PruningError, match="no times for conv at"):
        TableCost.of(empty, unet, graph, SHAPE)


def test_table_cost__interpolates_between_measured_widths() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    graph = pruning.trace(net, (2, 3, 4, 4))
    first, last = (call.geometry.key for call in layer_calls(net, graph, (1, 3, 4, 4)))
    assert first == last == Geometry("conv", (4, 4), (1, 1), (1, 1), (0, 0), (1, 1)).key
    table = LatencyTable({first: LayerTimes([1, 4, 8], [3, 8], [[1, 2], [2, 3], [6, 9]])}, 1, 0.5, 0.01, {})
    removed = graph.nothing()
    removed[graph.groups[0].components[:2]] = True
    # 6 × 3: half-way from 2 to 6; 1 × 6: three fifths of the way from 1 to 2; 16 positions of 6 + 1 filters.
    assert total(TableCost.of(table, net, graph, (1, 3, 4, 4)), removed) == pytest.approx(0.5 + 4 + 1.6 + 0.01 * 16 * 7)


def test_table_cost__rounds_up_to_the_step_but_not_what_was_measured() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1))
    graph = pruning.trace(net, (2, 3, 4, 4))
    key = layer_calls(net, graph, (1, 3, 4, 4))[0].geometry.key
    table = LatencyTable(
        {key: LayerTimes([1, 8, 16], [3, 8, 16], [[1, 2, 3], [10, 20, 30], [40, 50, 60]])}, 8, 0, 0, {}
    )
    cost = TableCost.of(table, net, graph, (1, 3, 4, 4))
    removed = graph.nothing()
    # 16, 15 and 9 filters take the time of 16 in both layers, 8 that of 8: 3 inputs and 1 output were measured.
    for gone, expected in ((0, 40 + 3), (1, 40 + 3), (7, 40 + 3), (8, 10 + 2)):
        removed[graph.groups[0].components[:gone]] = True
        assert total(cost, removed) == expected


def test_torch_timer__a_larger_net_takes_longer_and_threads_are_put_back() -> None:
    threads = torch.get_num_threads()
    timer = TorchTimer(threads=1, seconds=0.05)
    small, large = (timer(nn.Conv2d(3, width, 3).eval(), (1, 3, 64, 64)) for width in (2, 256))
    assert 0 < small < large
    assert torch.get_num_threads() == threads
    assert timer.conditions["backend"] == "torch"
    assert timer.conditions["threads"] == 1
