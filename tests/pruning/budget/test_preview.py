import io

import numpy as np
import pytest
import segmentation_models_pytorch as smp
from fake_timer import FakeTimer
from graphs import chain
from rich.console import Console

from polyp_lightning import pruning
from polyp_lightning.cli.preview_table import build_preview_table, draw_bar
from polyp_lightning.pruning.budget import total
from polyp_lightning.pruning.budget.latency import TableCost
from polyp_lightning.pruning.budget.preview import preview
from polyp_lightning.pruning.budget.profiling import measure_table


@pytest.fixture(scope="module")
def unet() -> smp.Unet:
    return smp.Unet("resnet18", encoder_weights=None)


@pytest.fixture(scope="module")
def graph(unet: smp.Unet) -> pruning.ChannelGraph:
    return pruning.trace(unet, (2, 3, 64, 64))


def test_preview__worked_by_hand() -> None:
    # In units of nine: 3·2 + 2·2 + 2·1 = 12 MACs. Without the first and the third filter 3 + 1 + 1 = 5: the first
    # layer's own 3, the head's 1, and of the 3 between them one half each, since they stand for the same.
    graph = chain([2, 2], [1, 1])
    importance = np.array([0, 0.25, 9, 0.5, 9])
    removed = np.array([False, True, False, True, False])
    of = preview(graph, importance, removed)
    assert of.units[:2] == ("MACs", "parameters")
    assert (of.before[0], of.after[0]) == (9 * 12, 9 * 5)
    assert [(row.name, row.before, row.after, row.loss) for row in of.rows] == [
        ("layer0", 2, 1, 0.25),
        ("layer1", 2, 1, 0.5),
    ]
    assert [row.saved[0] for row in of.rows] == pytest.approx([9 * 4.5, 9 * 2.5])
    assert of.loss == 0.75


@pytest.mark.parametrize("allocation", ["global", "optimal"])
def test_preview__columns_add_up_to_what_is_saved(
    unet: smp.Unet, graph: pruning.ChannelGraph, allocation: pruning.budget.Allocation
) -> None:
    shape = (1, 3, 64, 64)
    cost = TableCost.of(measure_table(unet, graph, shape, FakeTimer()), unet, graph, shape)
    importance = np.random.default_rng(0).random(graph.size)
    removed = pruning.select(graph, importance, 0.4, allocation=allocation)
    of = preview(graph, importance, removed, cost)
    assert of.units[-1] == "ms"
    for column, (before, after) in enumerate(zip(of.before, of.after, strict=True)):
        assert sum(row.saved[column] for row in of.rows) == pytest.approx(before - after)
        assert all(row.saved[column] >= 0 for row in of.rows)
        assert all(row.saved[column] == 0 for row in of.rows if row.after == row.before)
    assert of.after[-1] == total(cost, removed)
    assert of.loss == pytest.approx(importance[removed].sum())
    assert sum(row.before - row.after for row in of.rows) == removed.sum()


def test_preview__of_nothing(graph: pruning.ChannelGraph) -> None:
    of = preview(graph, np.ones(graph.size), graph.nothing())
    assert of.before == of.after
    assert of.loss == 0
    assert all(not any(row.saved) for row in of.rows)


def test_table__shows_layers_bars_and_sums(graph: pruning.ChannelGraph) -> None:
    importance = np.random.default_rng(0).random(graph.size)
    of = preview(graph, importance, pruning.select(graph, importance, 0.5))
    console = Console(file=io.StringIO(), width=160)
    console.print(build_preview_table(of, console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for row in of.rows:
        line = next(line for line in text.splitlines() if f" {row.name} " in line)
        assert draw_bar(row.after / row.before, 12) in line
        assert f"{row.before} → {row.after}" in line
    assert " 50% " in text


@pytest.mark.parametrize("share", np.linspace(0, 1, 33))
def test_bar__is_as_long_as_it_says(share: float) -> None:
    blocks = draw_bar(share, 12)
    assert len(blocks) == 12
    assert sum("·▏▎▍▌▋▊▉█".index(block) for block in blocks) / 96 == pytest.approx(share, abs=1 / 192)
