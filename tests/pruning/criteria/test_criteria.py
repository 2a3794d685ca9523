"""What holds for every criterion."""

import inspect
import io

import numpy as np
import pytest
import torch
from hand import squares
from small_nets import Concat, Residual, randomise
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import ConfigError, PruningError
from polyp_lightning.pruning.criteria import CRITERIA, Criterion, build_criterion
from polyp_lightning.pruning.criteria.base import MeanCriterion

RIDING = [name for name, made in CRITERIA.items() if made().rides_along]
GATHERING = [name for name, made in CRITERIA.items() if issubclass(made, MeanCriterion)]
DATA_FREE = [name for name in CRITERIA if name not in GATHERING]


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(3, 3, 8, 8, generator=generator), torch.randn(3, 1, 8, 8, generator=generator))
        for _ in range(count)
    ]


def prepared(make: type[nn.Module] = Concat) -> tuple[nn.Module, pruning.ChannelGraph]:
    torch.manual_seed(0)
    net = randomise(make()).eval()
    return net, pruning.trace(net, (2, 3, 8, 8))


def steps(criterion: Criterion, net: nn.Module, graph: pruning.ChannelGraph, count: int = 2) -> None:
    criterion.attach(net, graph)
    for x, t in batches(count):
        squares(net(x), t).backward()
    criterion.detach()


def hooks(net: nn.Module) -> int:
    of_modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
    return of_modules + sum(len(p._backward_hooks or ()) for p in net.parameters())


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria__watch_training_steps_only_if_they_ride_along(name: str) -> None:
    net, graph = prepared()
    criterion = build_criterion(name)
    steps(criterion, net, graph)
    assert bool(getattr(criterion, "count", 0)) == (name in RIDING)
    assert "taylor" in RIDING
    assert "random" in DATA_FREE


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria__one_shot(name: str) -> None:
    net, graph = prepared(Residual)
    criterion = build_criterion(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    criterion.gather(net, graph, batches(), squares)
    importance = criterion.importance(net, graph)
    assert importance.dtype == np.float64
    assert importance.shape == (graph.size,)
    assert np.isfinite(importance).all()
    assert len(np.unique(importance[1:])) > 1
    assert hooks(net) == 0
    assert all((parameter.grad == 1).all() for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert any(word in inspect.getdoc(type(criterion)) for word in ("doi:", "arXiv:"))


@pytest.mark.parametrize("name", DATA_FREE)
def test_criteria__data_free_ones_leave_the_batches(name: str) -> None:
    net, graph = prepared()
    untouched = iter(batches(1))
    build_criterion(name).gather(net, graph, untouched, squares)
    assert len(list(untouched)) == 1


@pytest.mark.parametrize("name", RIDING)
def test_criteria__training_steps_and_own_passes_agree(name: str) -> None:
    net, graph = prepared()
    riding, gathering = build_criterion(name), build_criterion(name)
    steps(riding, net, graph)
    gathering.gather(net, graph, batches(), squares)
    assert riding.importance(net, graph) == pytest.approx(gathering.importance(net, graph), rel=1e-5)


@pytest.mark.parametrize("name", RIDING)
def test_criteria__a_criterion_watches_only_while_attached(name: str) -> None:
    net, graph = prepared()
    criterion = build_criterion(name)
    criterion.detach()
    criterion.attach(net, graph)
    criterion.attach(net, graph)
    assert hooks(net) > 0
    criterion.detach()
    criterion.detach()
    assert hooks(net) == 0
    squares(net(batches()[0][0]), batches()[0][1]).backward()
    with pytest.raises(PruningError, match="saw no"):
        criterion.importance(net, graph)


@pytest.mark.parametrize("name", GATHERING)
def test_criteria__resume_from_a_safe_checkpoint(name: str) -> None:
    net, graph = prepared()
    whole, first, second = (build_criterion(name) for _ in range(3))
    whole.gather(net, graph, batches(2), squares)
    first.gather(net, graph, batches(2)[:1], squares)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    second.load_state_dict(torch.load(stored, weights_only=True))
    second.gather(net, graph, batches(2)[1:], squares)
    assert second.importance(net, graph) == pytest.approx(whole.importance(net, graph), rel=1e-9)


@pytest.mark.parametrize("name", GATHERING)
def test_criteria__reset_forgets_and_another_size_is_refused(name: str) -> None:
    net, graph = prepared()
    criterion = build_criterion(name)
    criterion.gather(net, graph, batches(), squares)
    other_net, other_graph = prepared(Residual)
    with pytest.raises(PruningError, match=f"{graph.size} components were watched, but the network has"):
        criterion.importance(other_net, other_graph)
    criterion.reset(other_graph.size)
    with pytest.raises(PruningError, match="saw no"):
        criterion.importance(other_net, other_graph)


@pytest.mark.parametrize("name", GATHERING)
def test_criteria__processes_add_up(name: str) -> None:
    net, graph = prepared()
    whole, parts = build_criterion(name), [build_criterion(name) for _ in range(2)]
    whole.gather(net, graph, batches(), squares)
    seen: list[Tensor] = []
    for part, batch in zip(parts, batches(), strict=True):
        part.gather(net, graph, [batch], squares)
        part.reduce(lambda tensor: seen.append(tensor) or tensor)
    parts[0].reduce(lambda _: seen[0] + seen[1])
    assert parts[0].importance(net, graph) == pytest.approx(whole.importance(net, graph), rel=1e-9)


@pytest.mark.parametrize("name", RIDING)
def test_criteria__a_step_that_is_not_finite_is_left_out(name: str) -> None:
    net, graph = prepared()
    criterion, expected = build_criterion(name), build_criterion(name)
    expected.gather(net, graph, batches(), squares)
    criterion.gather(net, graph, [*batches(), (batches()[0][0] * torch.nan, batches()[0][1])], squares)
    assert criterion.importance(net, graph) == pytest.approx(expected.importance(net, graph), rel=1e-12)


def test_build_criterion__unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"criterion='magnitude_11' is unknown\. Did you mean magnitude_l1"):
        build_criterion("magnitude_11")


def test_build_criterion__unknown_option_names_the_known() -> None:
    with pytest.raises(ConfigError, match="'random' has no option sed; it has seed"):
        build_criterion("random", sed=1)
    with pytest.raises(ConfigError, match="'fpgm' has no option seed; it has none"):
        build_criterion("fpgm", seed=1)
