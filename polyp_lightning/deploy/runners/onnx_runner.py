"""Running a model with ONNX Runtime on the CPU."""

from typing import Any

from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.runners.arrays import Frames, Maps
from polyp_lightning.deploy.signature import OUTPUT


def open_onnx_session(model: bytes, threads: int) -> Any:
    """Opens an ``InferenceSession`` of a serialised ``ModelProto`` on the CPU; threads are within an operator."""
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Its threads would go on spinning after a run, which takes the processor from the decoder and from other models.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Errors arrive as exceptions; the rest is chatter.
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRunner:
    """An exported model in ONNX Runtime; for the arguments see :func:`open_onnx_session`."""

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = open_onnx_session(model, threads)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, frames: Frames) -> Maps:
        """Returns the probabilities of frames."""
        maps: Maps = self._session.run([OUTPUT], {self._input: frames})[0]
        return maps
