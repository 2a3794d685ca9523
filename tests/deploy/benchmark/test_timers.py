"""Times of bare networks in the deployment backends."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import lively_net
from torch import Tensor, nn

from polyp_lightning.deploy.benchmark.timers import BackendTimer, serialise
from polyp_lightning.deploy.runners.openvino_runner import open_openvino_request

QUICK = {"seconds": 0.05, "least": 3}


@pytest.mark.parametrize(
    "timer",
    [BackendTimer("onnxruntime", **QUICK), BackendTimer("openvino", **QUICK), BackendTimer("openvino-bf16", **QUICK)],
)
def test_timer__four_times_the_work_takes_longer(timer: BackendTimer) -> None:
    layers = [nn.Conv2d(width, width, 3, padding=1).eval() for width in (32, 128)]
    little, much = (timer(layer, (1, layer.in_channels, 56, 56)) for layer in layers)
    assert 0.0 < 3 * little < much < 1000.0


def test_timer__leaves_the_network_alone() -> None:
    net = lively_net()
    before = copy.deepcopy(net.state_dict())
    BackendTimer("onnxruntime", **QUICK)(net, (1, 3, 64, 64))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net.training


def test_timer__conditions_are_plain() -> None:
    conditions = BackendTimer("openvino-bf16", threads=2).conditions
    assert (conditions["backend"], conditions["threads"]) == ("openvino-bf16", 2)
    assert BackendTimer("onnxruntime").conditions["version"] == onnxruntime.__version__
    assert all(isinstance(value, str | int) for value in conditions.values())


class Untraceable(nn.Module):
    """What the tracing exporter has no operator for, and the other one does."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.fft.fft(values.to(torch.complex64)).abs()


@pytest.mark.parametrize("net", [nn.Linear(8, 4), nn.Conv2d(3, 4, 3), Untraceable()])
def test_serialised__is_the_network(net: nn.Module) -> None:
    shape = (2, 8) if isinstance(net, nn.Linear) else (2, 3, 8, 8)
    session = onnxruntime.InferenceSession(serialise(net.eval(), shape), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(0).random(shape, np.float32)
    found = session.run(None, {session.get_inputs()[0].name: values})[0]
    assert np.abs(found - net(torch.from_numpy(values)).detach().numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("arch", "merge", "expected"),
    [
        # The last of ten resizings is of one channel.
        ("FPN", True, {"Resize": 9, "MatMul": 2, "ConvTranspose": 0}),
        ("Unet", True, {"Resize": 0, "MatMul": 0, "ConvTranspose": 5}),
        ("Unet", False, {"Resize": 5, "MatMul": 0, "ConvTranspose": 0}),
    ],
)
def test_serialised__a_network_is_timed_as_it_is_deployed(arch: str, merge: bool, expected: dict[str, int]) -> None:
    net, values = lively_net(arch), np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    model = onnx.load_from_string(serialise(net, values.shape, merge=merge))
    kinds = [node.op_type for node in model.graph.node]
    assert {kind: kinds.count(kind) for kind in expected} == expected
    assert "BatchNormalization" not in kinds
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: values})[0]
    with torch.no_grad():
        assert np.abs(found - net(torch.from_numpy(values)).numpy()).max() < 1e-3
    assert not net.training


def test_openvino_request__channels_last_is_the_same_network() -> None:
    net, values = nn.Conv2d(3, 4, 3).eval(), np.random.default_rng(0).random((1, 3, 8, 6), np.float32)
    found = []
    for last in (False, True):
        request = open_openvino_request(serialise(net, values.shape), 1, "f32", channels_last=last)
        request.infer([values.transpose(0, 2, 3, 1) if last else values])
        output = np.array(request.get_output_tensor(0).data)
        found.append(output.transpose(0, 3, 1, 2) if last else output)
    assert found[0].shape == (1, 4, 6, 4)
    assert np.abs(found[0] - found[1]).max() < 1e-5
