import pytest
import torch
from hand import Line, T, X, of, squares, traced
from small_nets import SMALL_NETS, Plain, randomise
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.taylor_filter import TaylorFilter


# z = (x, 2x), y = x, ∂L/∂z = (3, −1)·(x − t): z·∂L/∂z is (3, −2)·x(x − t), with x(x − t) of the two pixels 1 and −2 in
# the first image, −6 and 0 in the second. Means over pixels: −0.5 and −3.
@pytest.mark.parametrize(("layer_norm", "by"), [(False, 1.0), (True, (5.25**2 + 3.5**2) ** 0.5)])
def test_taylor_filter__by_hand(layer_norm: bool, by: float) -> None:
    net, criterion = Line(), TaylorFilter(layer_norm)
    graph = traced(net)
    criterion.gather(net, graph, [(X, T)], squares)
    expected = [3 * (0.5 + 3) / 2 / by, 2 * (0.5 + 3) / 2 / by]
    assert of(graph, criterion.importance(net, graph)) == pytest.approx(expected)


class Overwriting(nn.Module):
    """Both convolutions' outputs are overwritten: by an activation, and by an addition."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)
        self.act, self.inplace = nn.ReLU(inplace), inplace

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        y = self.second(x)
        if self.inplace:
            y += x
        else:
            y = y + x
        return self.head(y)


def test_taylor_filter__in_place_operations_change_nothing() -> None:
    torch.manual_seed(0)
    plain, inplace = Overwriting(False), Overwriting(True)
    inplace.load_state_dict(plain.state_dict())
    graph = pruning.trace(plain, (2, 3, 8, 8))
    batch = (torch.randn(3, 3, 8, 8), torch.randn(3, 1, 8, 8))
    got = []
    for net in (plain, inplace):
        criterion = TaylorFilter()
        criterion.gather(net, graph, [batch], squares)
        assert criterion.count == 3
        got.append(criterion.importance(net, graph)[1:])
    assert got[1] == pytest.approx(got[0], rel=1e-6)


def test_taylor_filter__in_training_the_first_overwritten_pass_is_left_out() -> None:
    net, criterion = Overwriting(True), TaylorFilter()
    criterion.attach(net, pruning.trace(net, (2, 3, 8, 8)))
    for _ in range(3):
        squares(net(torch.randn(2, 3, 8, 8)), torch.zeros(2, 1, 8, 8)).backward()
    criterion.detach()
    assert criterion.count == 4


def test_taylor_filter__equals_autograd_at_the_outputs() -> None:
    torch.manual_seed(0)
    net, criterion = randomise(Plain()).double().eval(), TaylorFilter(layer_norm=False)
    graph = pruning.trace(net, (2, 3, 8, 8))
    x, t = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    criterion.gather(net, graph, [(x, t)], squares)
    z = net.first[0](x)
    (gradient,) = torch.autograd.grad(squares(net.head(net.second(net.first[2](net.first[1](z)))), t), z)
    expected = (z * gradient).detach().numpy().mean((2, 3)).__abs__().mean(0)
    assert of(graph, criterion.importance(net, graph), "first.0") == pytest.approx(expected.tolist(), rel=1e-9)


@pytest.mark.parametrize("make", SMALL_NETS)
def test_taylor_filter__sees_every_kind_of_coupling(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, criterion = randomise(make()), TaylorFilter()
    graph = pruning.trace(net, (2, 3, 8, 8))
    if graph.size == 1:
        pytest.skip("nothing to prune")
    batch = torch.randn(4, 3, 8, 8)
    criterion.gather(net, graph, [(batch, torch.zeros_like(net(batch)))], squares)
    importance = criterion.importance(net, graph)
    # Filters behind a ReLU that is never active have no gradient; whole layers do.
    assert all(importance[group.components].max() > 0 for group in graph.groups)
