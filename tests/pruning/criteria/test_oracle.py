import pytest
import torch
from hand import Line, T, X, of, squares, traced
from small_nets import Concat, Residual, randomise
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import ConfigError, PruningError
from polyp_lightning.pruning.criteria.oracle import Oracle, masked


# With both, y = x: losses ½(1² + 2²) = 2.5 and ½·3² = 4.5. Without the first, y = −2x: ½(2² + 5²) and ½·9²; without the
# second, y = 3x: ½(3² + 0²) and ½·1².
@pytest.mark.parametrize(
    ("change", "expected"),
    [("signed", [(12 + 36) / 2, (2 - 4) / 2]), ("abs", [(12 + 36) / 2, (2 + 4) / 2])],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_oracle__by_hand(change: str, expected: list[float], batch: int) -> None:
    net, oracle = Line(), Oracle(change)
    graph = traced(net)
    oracle.gather(net, graph, zip(X.split(batch), T.split(batch), strict=True), squares)
    assert of(graph, oracle.importance(net, graph)) == pytest.approx(expected)
    assert oracle.count == 2


def test_oracle__masking_measures_what_removal_does() -> None:
    net = randomise(Residual()).double().eval()
    graph, oracle = pruning.trace(net, (2, 3, 8, 8)), Oracle()
    x, t = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    before = squares(net(x), t).detach()
    oracle.gather(net, graph, [(x, t)], squares)
    component = graph.groups[1].components[2]
    removed = graph.nothing()
    removed[component] = True
    pruning.remove(net, graph, removed)
    # The mean over two images of a loss that is a sum.
    expected = float(squares(net(x), t).detach() - before) / 2
    assert oracle.importance(net, graph)[component] == pytest.approx(expected, rel=1e-9)


def test_oracle__the_network_is_left_as_it_was() -> None:
    net = randomise(Residual()).train()
    net.stem.eval()
    graph, oracle = pruning.trace(net, (2, 3, 8, 8)), Oracle()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    oracle.gather(net, graph, [(torch.randn(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))], squares)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert net.training
    assert not net.stem.training


def test_masked__restores_after_an_error() -> None:
    net = Line()
    graph = traced(net)
    removed = graph.nothing()
    removed[1:] = True

    def fail() -> None:
        with masked(net, graph, removed):
            assert net.first.weight.abs().sum() == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert net.first.weight.flatten().tolist() == [1, 2]


def test_oracle__refuses_a_large_network() -> None:
    net: nn.Module = Concat()
    graph = pruning.trace(net, (2, 3, 8, 8))
    with pytest.raises(PruningError, match="19 forward passes for each batch, more than its limit of 18"):
        Oracle(limit=18).gather(net, graph, [], squares)


def test_oracle__unknown_change_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of signed, abs"):
        Oracle("square")  # type: ignore[arg-type]


class Several(Line):
    """The same number twice, in a tree."""

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        y = super().forward(x)
        return {"maps": [y, 2 * y]}


def test_oracle__of_several_outputs_each_image_is_counted_by_itself() -> None:
    def loss(output: dict[str, list[torch.Tensor]], target: torch.Tensor) -> torch.Tensor:
        first, second = output["maps"]
        assert len(first) == len(second) == len(target) == 1
        return squares(first, target) + squares(second, 2 * target)

    net, oracle = Several(), Oracle("signed")
    graph = traced(net)
    oracle.gather(net, graph, [(X, T)], loss)
    # Twice as large, four times the squares: five times what one output has.
    assert of(graph, oracle.importance(net, graph)) == pytest.approx([5 * (12 + 36) / 2, 5 * (2 - 4) / 2])
