"""U-Nets in the deployment backends, on one core: what merging doublings saves, and what a quarter of the MACs does."""

from collections.abc import Callable

import numpy as np
from measuring import Effort, Row, take_turns
from scoring import NETS
from torch import nn

from polyp_lightning.deploy.benchmark.timers import serialise
from polyp_lightning.deploy.runners.onnx_runner import open_onnx_session
from polyp_lightning.deploy.runners.openvino_runner import open_openvino_request
from polyp_lightning.networks.build import build_net
from polyp_lightning.pruning import remove, select, trace
from polyp_lightning.pruning.budget import Limits

MERGED = 0.95
TARGET = 0.25
# 85 % of the ideal, asked of the backend that keeps most of it.
FASTER = 0.85 / TARGET
_SIDE = 352
_SHAPE = (1, 3, _SIDE, _SIDE)

Run = Callable[[], object]


def measure(effort: Effort) -> list[Row]:
    """Three rows for each encoder."""
    return [row for encoder, name in NETS.items() for row in _measure(encoder, name, effort)]


def _measure(encoder: str, name: str, effort: Effort) -> list[Row]:
    dense, pruned = build_net("Unet", encoder, None).eval(), _pruned(encoder)
    where = f"{name}, {_SIDE}², batch 1, 1 thread"
    pairs = take_turns(_openvino(dense), _openvino(dense, merge=False), effort)
    rows = [pairs.row(f"OpenVINO f32, {where}: doublings merged", MERGED)]
    for backend, make, limit in (("ONNX Runtime", _onnx, FASTER), ("OpenVINO f32, merged", _openvino, None)):
        pairs = take_turns(make(dense), make(pruned), effort)
        what = f"{backend}, {where}: dense against {TARGET:.0%} of its MACs at multiples of 16"
        rows.append(pairs.row(what, limit, at_least=True))
    return rows


def _pruned(encoder: str) -> nn.Module:
    """Cut at random: what is left has to be as fast as its MACs say, whatever was removed."""
    net = build_net("Unet", encoder, None).eval()
    graph = trace(net, (2, *_SHAPE[1:]))
    importance = np.random.default_rng(0).random(graph.size)
    remove(net, graph, select(graph, importance, TARGET, limits=Limits(round_to=16)))
    return net


def _onnx(net: nn.Module) -> Run:
    session = open_onnx_session(serialise(net, _SHAPE), 1)
    inputs = {session.get_inputs()[0].name: _values(_SHAPE)}
    return lambda: session.run(None, inputs)


def _openvino(net: nn.Module, *, merge: bool = True) -> Run:
    request = open_openvino_request(serialise(net, _SHAPE, merge=merge), 1, "f32", channels_last=True)
    values = _values(tuple(request.get_input_tensor(0).shape))
    return lambda: request.infer([values], share_inputs=True)


def _values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)
