"""Running a model with OpenVINO on the CPU."""

from functools import cache
from typing import Any

import numpy as np

from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.runners.arrays import Frames, Maps


@cache
def share_openvino_core() -> Any:
    """Returns OpenVINO's ``Core``, one for the whole process.

    Each further one would register a stack for signals with the thread, and give the stack of an earlier one back when
    it goes, which may be freed by then: the next signal that Python handles (Ctrl-C, the end of a child process) would
    kill the process (OpenVINO 2026).
    """
    return need("openvino").Core()


def open_openvino_request(model: Any, threads: int, precision: str, *, channels_last: bool = False) -> Any:
    """Opens an ``InferRequest`` on the CPU.

    Args:
        model: the path of an .xml or .onnx, or the bytes of an ONNX model.
        threads: threads of its one stream.
        precision: ``f32`` or ``bf16``. It has to be said: OpenVINO by itself takes bf16 where the processor has it.
        channels_last: take and give images as (N, H, W, C), which is how it computes: nothing is reordered.
    """
    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # Threads that move keep out of the way of the decoder's.
        "ENABLE_CPU_PINNING": False,
    }
    openvino, core = need("openvino"), share_openvino_core()
    graph = core.read_model(model if isinstance(model, bytes) else str(model))
    if channels_last:
        adapted = openvino.preprocess.PrePostProcessor(graph)
        for end in (adapted.input(), adapted.output()):
            end.model().set_layout(openvino.Layout("NCHW"))
            end.tensor().set_layout(openvino.Layout("NHWC"))
        graph = adapted.build()
    return core.compile_model(graph, "CPU", config).create_infer_request()


def precision_of(backend: str) -> str:
    """Returns the precision that a backend's name asks for."""
    return "bf16" if backend.endswith("bf16") else "f32"


class OpenVinoRunner:
    """An exported model in the backend ``openvino`` or ``openvino-bf16``; see :func:`open_openvino_request`."""

    def __init__(self, model: Any, backend: str, threads: int) -> None:
        self._request = open_openvino_request(model, threads, precision_of(backend))

    def __call__(self, frames: Frames) -> Maps:
        """Returns the probabilities of frames."""
        self._request.infer([frames], share_inputs=True)
        maps: Maps = np.array(self._request.get_output_tensor(0).data)
        return maps
