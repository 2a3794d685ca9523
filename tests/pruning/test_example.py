"""Examples: whatever a network is called with, it is traced, cut exactly, and costs what PyTorch counts."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hostile_cuts import random_cut
from hostile_nets import Net
from small_nets import Plain, randomise
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.example import Example, Like


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def with_metadata(net: Any, image: Tensor, *, sex: Tensor, age: Tensor) -> Tensor:
    known = net.embed(sex) + net.age(age[:, None])
    return net.head(torch.relu(net.stem(image) + known[:, :, None, None]))


def volumes(net: Any, x: Tensor) -> Tensor:
    down = net.act(net.norm(net.stem(x)))
    up = F.interpolate(net.deep(F.max_pool3d(down, 2)), scale_factor=2, mode="trilinear")
    return net.head(torch.cat([up, down], 1))


def dicts(net: Any, batch: dict[str, Any]) -> dict[str, Any]:
    x = net.stem(batch.pop("image") / batch["scale"]) if batch["normalise"] else None
    return {"masks": [net.head(x), net.side(x)], "epoch": batch["meta"]["epoch"]}


CASES: dict[str, tuple[Callable[[], nn.Module], Like]] = {
    "grayscale": (
        lambda: Net(lambda n, x: n.head(n.stem(x)), stem=conv(1, 8), head=nn.Conv2d(8, 1, 1)),
        (2, 1, 16, 16),
    ),
    "13 channels, not square": (
        lambda: nn.Sequential(conv(13, 8), nn.Conv2d(8, 4, 1)),
        (3, 13, 16, 24),
    ),
    "volumes": (
        lambda: Net(
            volumes,
            stem=nn.Conv3d(2, 8, 3, padding=1),
            norm=nn.BatchNorm3d(8),
            act=nn.PReLU(),
            deep=nn.Conv3d(8, 10, 3, padding=1),
            head=nn.Conv3d(18, 2, 1),
        ),
        (2, 2, 8, 8, 12),
    ),
    "signals": (
        lambda: Net(
            lambda n, x: n.head(F.interpolate(F.max_pool1d(n.stem(x), 2), 30)),
            stem=nn.Conv1d(4, 8, 5),
            head=nn.Conv1d(8, 1, 1),
        ),
        (2, 4, 50),
    ),
    "two inputs": (
        lambda: Net(lambda n, a, b: n.head(n.a(a) + n.b(b)), a=conv(3, 8), b=conv(1, 8), head=nn.Conv2d(8, 1, 1)),
        (image(1, 3, 16, 16), image(1, 1, 16, 16)),
    ),
    "image and metadata by name": (
        lambda: Net(
            with_metadata,
            stem=nn.Conv2d(3, 8, 3, padding=1),
            embed=nn.Embedding(3, 8),
            age=nn.Linear(1, 8),
            head=nn.Conv2d(8, 1, 1),
        ),
        {"image": image(4, 3, 16, 16), "sex": torch.tensor([0, 2, 1, 2]), "age": image(4)},
    ),
    "dict of anything, from which it takes the image": (
        lambda: Net(dicts, stem=conv(3, 8), head=nn.Conv2d(8, 1, 1), side=nn.Conv2d(8, 2, 1)),
        Example(({"image": image(1, 3, 16, 16), "scale": torch.tensor(2.0), "normalise": True, "meta": {"epoch": 3}},)),
    ),
    "list of frames": (
        lambda: Net(lambda n, xs: n.head(torch.cat([n.stem(x) for x in xs], 1)), stem=conv(3, 8), head=conv(16, 1)),
        Example(([image(2, 3, 16, 16), image(2, 3, 16, 16)],)),
    ),
}


def counted_macs(net: nn.Module, example: Like) -> float:
    """By PyTorch, with one item."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Example.of(example).one_item().to("cpu", torch.float64).call(net)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("make", "example"), CASES.values(), ids=CASES)
def test_trace__any_example(make: Callable[[], nn.Module], example: Like) -> None:
    torch.manual_seed(0)
    net = randomise(make()).double().eval()
    dense = copy.deepcopy(net)
    graph = pruning.trace(net, example)
    assert graph.not_understood == {}
    assert graph.frozen_share(frozenset(dict(net.named_parameters()))) < 1
    assert graph.total_macs() == pytest.approx(counted_macs(net, example))
    removed = random_cut(graph, 0.4, 0)
    assert pruning.assert_exact(net, graph, removed, example) <= 1e-9
    assert pruning.assert_exact(net, graph, removed, graph.example) <= 1e-9
    pruning.remove(net, graph, removed)
    assert removed.any()
    assert graph.total_macs(removed) == pytest.approx(counted_macs(net, example))
    again = pruning.rebuild(dense, pruning.describe(net)).double().eval()
    again.load_state_dict(net.state_dict())
    expected, got = (Example.of(example).to("cpu", torch.float64).call(one) for one in (net, again))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_trace__a_batch_of_one_is_repeated() -> None:
    net = Plain()
    one, two = (pruning.trace(net, (size, 3, 16, 16)) for size in (1, 2))
    assert (one.input_shape, two.input_shape) == ((2, 3, 16, 16),) * 2
    assert one.total_macs() == two.total_macs() == counted_macs(net.double().eval(), (1, 3, 16, 16))


def test_assert_exact__the_network_may_write_into_its_input() -> None:
    net = Net(lambda n, x: n.head(n.stem(x.sub_(0.5))), stem=nn.Conv2d(3, 8, 1), head=nn.Conv2d(8, 1, 1))
    given = image(2, 3, 8, 8)
    graph = pruning.trace(net, given)
    pruning.assert_exact(net, graph, random_cut(graph, 0.4, 0), given)
    assert torch.equal(given, image(2, 3, 8, 8))


@pytest.mark.parametrize("keep", [lambda loss: loss, lambda loss: {"losses": [loss]}])
def test_trace__a_module_may_hold_a_graph(keep: Callable[[Tensor], object]) -> None:
    net = Plain()
    loss = net(image(2, 3, 16, 16)).mean()
    net.last = keep(loss)
    graph = pruning.trace(net, (2, 3, 16, 16))
    assert pruning.assert_exact(net, graph, random_cut(graph, 0.4, 0), (2, 3, 16, 16)) <= 1e-9
    assert loss.grad_fn is not None


def test_of_call__leaves_graphs_and_later_changes_behind() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    y, flags = x * 2, [True, None, "left"]
    example = Example.of_call((y, flags), {"more": {"n": 3}})
    y.detach().zero_()
    assert torch.equal(example.args[0], torch.full((2, 3), 2.0))
    assert not example.args[0].requires_grad
    assert (example.args[1], example.kwargs) == (flags, {"more": {"n": 3}})


def test_one_item__is_the_first_of_what_has_a_batch() -> None:
    labels, grid = torch.tensor([7, 8, 9]), image(5, 2)
    one = Example((image(3, 1, 4, 4), labels), {"grid": grid, "scale": torch.tensor(2.0)}).one_item()
    assert torch.equal(one.args[0], image(3, 1, 4, 4)[:1])
    assert one.args[1].tolist() == [7]
    assert torch.equal(one.kwargs["grid"], grid)
    assert one.kwargs["scale"] == 2
    assert one.batch == 1
    assert one.at_least_two().args[1].tolist() == [7, 7]


def test_to__draws_what_is_missing_always_alike() -> None:
    labels = torch.empty(2, dtype=torch.int64, device="meta")
    example = Example((torch.empty(2, 3, 64, 64, device="meta"), labels))
    (first, zeros), (second, _) = (example.to("cpu", torch.float32).args for _ in range(2))
    assert torch.equal(first, second)
    assert (first.dtype, zeros.dtype, zeros.tolist()) == (torch.float32, torch.int64, [0, 0])
    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.03


@pytest.mark.parametrize("example", [(), (0, 3), "image", [image(1, 3)], {"n": 3}, torch.tensor(1.0), 5])
def test_of__what_is_no_example_is_refused(example: Any) -> None:
    with pytest.raises(PruningError, match="give a shape"):
        Example.of(example)


def test_trace__a_call_that_does_not_run_is_explained() -> None:
    with pytest.raises(PruningError, match=r"run on Example\(\(2, 3, 8, 8\), mask=bool \(2, 1, 8, 8\)\): .*mask"):
        pruning.trace(Plain(), Example((image(2, 3, 8, 8),), {"mask": torch.ones(2, 1, 8, 8, dtype=torch.bool)}))
