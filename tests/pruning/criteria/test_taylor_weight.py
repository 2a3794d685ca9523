import pytest
import torch
from hand import Line, Stream, fill, of, squares, traced
from small_nets import Plain, randomise

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.criteria.taylor_weight import TaylorWeight


def pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), float(value))


def test_taylor_weight__by_hand() -> None:
    # Weights (1, 2), biases (1, 0), read by (3, −1). x = 1, t = 0: y = 3·2 − 2 = 4 and so ∂L/∂y = 4; w·∂L/∂w +
    # b·∂L/∂b = 4·3·(1 + 1) and 4·(−1)·2. x = 2, t = 1: y = 3·3 − 4 = 5, ∂L/∂y = 4; 4·3·(2 + 1) and 4·(−1)·4.
    net, criterion = Line(bias=True), TaylorWeight()
    graph = traced(net)
    criterion.gather(net, graph, [(pixel(1), pixel(0)), (pixel(2), pixel(1))], squares)
    expected = [(24**2 + 36**2) / 2, (8**2 + 16**2) / 2]
    assert of(graph, criterion.importance(net, graph)) == pytest.approx(expected)
    assert criterion.state_dict()["steps"] == 2


def test_taylor_weight__coupled_layers_are_added_before_the_square() -> None:
    # x = 1: the stream is (1 + 2·1, 3 − 6·3) = (3, −15), read by (1, 1), so that ∂L/∂y = −12. The first layer's weights
    # change the loss by −12·(1·3) and −12·(3·(1 − 6)), the second's by −12·2 and −12·(−18).
    net, criterion = Stream(), TaylorWeight()
    fill(net.head.weight, [1, 1])
    fill(net.head.bias, [0])
    graph = traced(net)
    criterion.gather(net, graph, [(pixel(1), pixel(0))], squares)
    expected = [(-12 * (3 + 2)) ** 2, (-12 * (-15 - 18)) ** 2]
    assert of(graph, criterion.importance(net, graph)) == pytest.approx(expected)


def test_taylor_weight__behind_batch_norm_only_its_scale_and_shift_count() -> None:
    net, criterion = randomise(Plain()).double().train(), TaylorWeight()
    graph = pruning.trace(net, (2, 3, 8, 8))
    x, t = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    criterion.gather(net, graph, [(x, t)], squares)
    norm = net.first[1]
    by_scale, by_shift = torch.autograd.grad(squares(net(x), t), [norm.weight, norm.bias])
    expected = (norm.weight * by_scale + norm.bias * by_shift).square()
    # The norm's ε is all that makes the scale of the weights before it matter.
    assert of(graph, criterion.importance(net, graph), "first.0") == pytest.approx(expected.tolist(), rel=1e-3)


def test_taylor_weight__frozen_layers_come_last() -> None:
    net, criterion = Plain(), TaylorWeight()
    net.first.requires_grad_(False)
    graph = pruning.trace(net, (2, 3, 8, 8))
    criterion.gather(net, graph, [(torch.randn(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))], squares)
    importance = criterion.importance(net, graph)
    assert min(of(graph, importance, "first.0")) > max(of(graph, importance, "second.0"))


def test_taylor_weight__rides_along_and_lets_go() -> None:
    net, criterion = Line(), TaylorWeight()
    graph = traced(net)
    criterion.attach(net, graph)
    squares(net(pixel(1)), pixel(0)).backward()
    criterion.detach()
    squares(net(pixel(9)), pixel(0)).backward()
    assert criterion.count == 1
    # y = 3 − 2 = 1.
    assert of(graph, criterion.importance(net, graph)) == pytest.approx([9, 4])


def test_taylor_weight__nothing_gathered_is_an_error() -> None:
    with pytest.raises(PruningError, match="'taylor_weight' saw no steps"):
        TaylorWeight().importance(Line(), traced(Line()))
