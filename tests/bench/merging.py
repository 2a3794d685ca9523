"""A network in OpenVINO with its decoder's doublings merged into the convolutions behind them, against without."""

from collections.abc import Callable

import numpy as np
from measuring import Effort, Row, take_turns
from training import ENCODERS

from polyp_lightning.deploy.runtime import openvino_request
from polyp_lightning.deploy.timers import serialised
from polyp_lightning.nets import build_net

LIMIT = 0.95
_SHAPE = (1, 3, 352, 352)


def measure(effort: Effort) -> list[Row]:
    """One row for each encoder, on one core."""
    return [_measure(encoder, name, effort) for encoder, name in ENCODERS.items()]


def _measure(encoder: str, name: str, effort: Effort) -> Row:
    net = build_net("Unet", encoder, None).eval()
    merged, plain = (_runner(serialised(net, _SHAPE, merge=merge)) for merge in (True, False))
    pairs = take_turns(merged, plain, effort)
    what = f"OpenVINO f32, {name}, 352², batch 1, 1 thread: doublings merged, n = {len(pairs.ours)}"
    return pairs.row(what, LIMIT)


def _runner(model: bytes) -> Callable[[], object]:
    request = openvino_request(model, 1, "f32", channels_last=True)
    values = np.random.default_rng(0).random(tuple(request.get_input_tensor(0).shape), np.float32)
    return lambda: request.infer([values], share_inputs=True)
