"""How long a bare network takes in a deployment backend: for latency budgets of the pruning package."""

import io
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.common.machine import processor
from polyp_lightning.common.timing import median_seconds
from polyp_lightning.deploy.extras import need, silence_exporters
from polyp_lightning.deploy.rewriting.capture import rewrite
from polyp_lightning.deploy.runners.arrays import OPENVINO_BACKENDS
from polyp_lightning.deploy.runners.onnx_runner import open_onnx_session
from polyp_lightning.deploy.runners.openvino_runner import open_openvino_request, precision_of
from polyp_lightning.pruning.budget import Timer, TorchTimer

_Run = Callable[[NDArray[np.float32]], Any]


def build_timer(backend: str, threads: int) -> Timer:
    """Builds what measures milliseconds per frame: in ``torch`` (eager) or a backend of :class:`BackendTimer`.

    Raises:
        ConfigError: there is no such backend, or no such number of threads.
    """
    known = ("torch", *_LOADERS)
    if backend not in known:
        msg = f"backend={backend!r} is none of {', '.join(known)}. {nearest(backend, known)}"
        raise ConfigError(msg)
    if threads < 1:
        msg = f"threads={threads}; give 1 or more"
        raise ConfigError(msg)
    return TorchTimer(threads) if backend == "torch" else BackendTimer(backend, threads)


class BackendTimer:
    """Measures the median of repeated forward passes after a warm-up, as ``pruning.budget``'s own timer does.

    Args:
        backend: ``onnxruntime``, ``openvino`` or ``openvino-bf16``, on the CPU.
        threads: threads of the backend.
        seconds: how long one measurement goes on.
        least: passes that are measured however long they take.
    """

    def __init__(self, backend: str, threads: int = 1, seconds: float = 0.5, least: int = 5) -> None:
        self.backend, self.threads, self.seconds, self.least = backend, threads, seconds, least

    @property
    def conditions(self) -> dict[str, str | int]:
        """What the times are valid for."""
        version = metadata.version(self.backend.removesuffix("-bf16"))
        return {"backend": self.backend, "version": version, "threads": self.threads, "machine": processor()}

    def __call__(self, net: nn.Module, input_shape: Sequence[int]) -> float:
        """Returns the milliseconds of one pass of a float32 input; ``net``, in evaluation mode, is left as it is.

        Raises:
            ConfigError: the backend is not installed.
        """
        run = _LOADERS[self.backend](net, input_shape, self.backend, self.threads)
        values = np.random.default_rng(0).random(tuple(input_shape), np.float32)
        return 1e3 * median_seconds(lambda: run(values), self.seconds, self.least)


def _load_in_onnxruntime(net: nn.Module, shape: Sequence[int], _: str, threads: int) -> _Run:
    session = open_onnx_session(serialise(net, shape), threads)
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})


def _load_in_openvino(net: nn.Module, shape: Sequence[int], backend: str, threads: int) -> _Run:
    model = serialise(net, shape, merge=True)
    # A layer alone would spend most of its time on reordering its input and output, which in a network it does not.
    request = open_openvino_request(model, threads, precision_of(backend), channels_last=len(shape) == 4)
    own_shape = tuple(request.get_input_tensor(0).shape)
    return lambda values: request.infer([values.reshape(own_shape)], share_inputs=True)


_LOADERS = {
    "onnxruntime": _load_in_onnxruntime,
    **dict.fromkeys(OPENVINO_BACKENDS, _load_in_openvino),
}
"""Backend → what loads a network into it."""


def serialise(net: nn.Module, input_shape: Sequence[int], *, merge: bool = False) -> bytes:
    """Converts a network to ONNX, batch norm folded.

    Traces it, because that takes milliseconds for a layer where the exporter of ``formats.onnx`` takes a second; what
    is only timed needs no parity. Where tracing fails, that exporter has its turn.
    """
    example = (torch.zeros(tuple(input_shape)),)
    buffer = io.BytesIO()
    with silence_exporters(), torch.no_grad():
        net = _rewrite_network(net, example, merge=merge)
        try:
            torch.onnx.export(net, example, buffer, dynamo=False)  # type: ignore[arg-type]
        except Exception:
            # Whatever tracing stumbles over; if the network is at fault, the second attempt says so.
            need("onnxscript")
            exported = torch.onnx.export(net, example, dynamo=True, external_data=False, verbose=False)
            assert exported is not None  # noqa: S101 for the type checker
            return bytes(exported.model_proto.SerializeToString())
    return buffer.getvalue()


def _rewrite_network(net: nn.Module, example: tuple[torch.Tensor], *, merge: bool) -> nn.Module:
    """Rewrites a whole network as exports do; leaves a single layer as it is."""
    if next(net.children(), None) is None:
        return net
    try:
        graph = torch.export.export(net, example).module(check_guards=False)
    except Exception:
        # What can't be captured is timed as it is.
        return net
    deployed = rewrite(graph, merge=merge)
    # The exporter asks for a mode, which the module of an exported program refuses.
    return fx.GraphModule(deployed, deployed.graph)
