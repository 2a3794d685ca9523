"""Running an exported model with ONNX Runtime or OpenVINO: NumPy in, NumPy out, without PyTorch."""

from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.bundle import OUTPUT, Bundle
from polyp_lightning.deploy.extras import need

Frames = NDArray[np.uint8]
"""RGB, uint8 (N, S, S, 3)."""
Maps = NDArray[np.float32]
"""Probabilities, float32 (N, 1, S, S)."""

BACKENDS = {
    "onnx": ("onnxruntime", "openvino", "openvino-bf16"),
    "openvino": ("openvino", "openvino-bf16"),
    "pt2": ("torch", "torch-compile", "cuda", "cuda-bf16", "cuda-compile"),
    "torchscript": ("torch", "cuda"),
    "checkpoint": ("torch", "torch-compile", "cuda", "cuda-bf16", "cuda-compile"),
}
"""Format → the backends that run it, the usual one first."""


class Runner(Protocol):
    """A loaded model: frames (N, S, S, 3) to probabilities (N, 1, S, S)."""

    def __call__(self, frames: Frames) -> Maps:
        """Runs the network and waits for its result."""
        ...


def load(bundle: Bundle, backend: str, threads: int) -> Runner:
    """Loads an exported model.

    Args:
        bundle: the model.
        backend: one of :data:`BACKENDS` of its format.
        threads: threads that the network may use, ≥ 1.

    Raises:
        ConfigError: the backend does not run this format or is not installed, or the model can't be loaded.
    """
    check_backend(bundle.format, backend, bundle.path)
    if threads < 1:
        msg = f"--threads {threads} must be at least 1"
        raise ConfigError(msg)
    try:
        if backend == "onnxruntime":
            return OnnxRunner(bundle.path.read_bytes(), threads)
        if backend.startswith("openvino"):
            return OpenVinoRunner(bundle.path, threads, "bf16" if backend.endswith("bf16") else "f32")
        from polyp_lightning.deploy.runtime_torch import load_exported

        return load_exported(bundle, backend, threads)
    except ConfigError:
        raise
    except Exception as error:
        # The runtimes' own errors: an operator set they don't know, a damaged file, a missing device.
        first = str(error).strip().split("\n", maxsplit=1)[0][:300]
        opset = f" (operator set {bundle.facts['opset']})" if "opset" in bundle.facts else ""
        msg = f"{backend} can't load {bundle.path}{opset}: {first}. Export again with the versions installed here."
        raise ConfigError(msg) from error


def check_backend(kind: str, backend: str, path: Path) -> None:
    """Refuses a backend that does not run a format.

    Raises:
        ConfigError: naming those that do.
    """
    if backend not in BACKENDS[kind]:
        msg = f"--backend {backend} does not run {path} ({kind}); allowed: {', '.join(BACKENDS[kind])}"
        raise ConfigError(msg)


def onnx_session(model: bytes, threads: int) -> Any:
    """An ``InferenceSession`` of ONNX Runtime on the CPU.

    Args:
        model: the serialised ``ModelProto``.
        threads: threads within an operator.
    """
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Its threads would go on spinning after a run, which takes the processor from the decoder and from other models.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Errors arrive as exceptions; the rest is chatter.
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def openvino_core() -> Any:
    """OpenVINO's ``Core``, one for the whole process.

    Each further one would register a stack for signals with the thread, and give the stack of an earlier one back when
    it goes, which may be freed by then: the next signal that Python handles (Ctrl-C, the end of a child process) would
    kill the process (OpenVINO 2026).
    """
    return need("openvino").Core()


def openvino_request(model: Any, threads: int, precision: str, *, channels_last: bool = False) -> Any:
    """An ``InferRequest`` of OpenVINO on the CPU.

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
    openvino = need("openvino")
    core = openvino_core()
    graph = core.read_model(model if isinstance(model, bytes) else str(model))
    if channels_last:
        adapted = openvino.preprocess.PrePostProcessor(graph)
        for end in (adapted.input(), adapted.output()):
            end.model().set_layout(openvino.Layout("NCHW"))
            end.tensor().set_layout(openvino.Layout("NHWC"))
        graph = adapted.build()
    return core.compile_model(graph, "CPU", config).create_infer_request()


class OnnxRunner:
    """ONNX Runtime on the CPU; for the arguments see :func:`onnx_session`."""

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = onnx_session(model, threads)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, frames: Frames) -> Maps:
        """Probabilities of frames."""
        maps: Maps = self._session.run([OUTPUT], {self._input: frames})[0]
        return maps


class OpenVinoRunner:
    """OpenVINO on the CPU; for the arguments see :func:`openvino_request`."""

    def __init__(self, model: Any, threads: int, precision: str = "f32") -> None:
        self._request = openvino_request(model, threads, precision)

    def __call__(self, frames: Frames) -> Maps:
        """Probabilities of frames."""
        self._request.infer([frames], share_inputs=True)
        maps: Maps = np.array(self._request.get_output_tensor(0).data)
        return maps
