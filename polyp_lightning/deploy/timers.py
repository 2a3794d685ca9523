"""How long a bare network takes in a deployment backend: for latency budgets of the pruning package."""

import io
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from polyp_lightning.common.machine import processor
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.formats import quiet
from polyp_lightning.deploy.graph import rewritten
from polyp_lightning.deploy.runtime import onnx_session, openvino_request


class _BackendTimer:
    """Median of repeated forward passes after a warm-up, in milliseconds.

    A timer is what ``pruning.budget`` calls one: ``timer(net, input_shape) -> milliseconds`` with ``conditions``.

    Args:
        threads: threads of the backend.
        seconds: how long one measurement goes on.
        least: passes that are measured however long they take.
    """

    backend = ""
    package = ""
    merges = False

    def __init__(self, threads: int = 1, seconds: float = 0.5, least: int = 5) -> None:
        self.threads, self.seconds, self.least = threads, seconds, least

    @property
    def conditions(self) -> dict[str, str | int]:
        """What the times are valid for."""
        version = metadata.version(self.package)
        return {"backend": self.backend, "version": version, "threads": self.threads, "machine": processor()}

    def __call__(self, net: nn.Module, input_shape: Sequence[int]) -> float:
        """Milliseconds that one forward pass takes; ``net`` itself, in evaluation mode, is left as it is.

        Args:
            net: takes one float32 input.
            input_shape: its shape.

        Raises:
            ConfigError: the backend is not installed.
        """
        run = self._loaded(serialised(net, input_shape, merge=self.merges), images=len(input_shape) == 4)
        values = np.random.default_rng(0).random(tuple(input_shape), np.float32)
        return 1e3 * median_seconds(lambda: run(values), self.seconds, self.least)

    def _loaded(self, model: bytes, *, images: bool) -> Callable[[NDArray[np.float32]], Any]:
        raise NotImplementedError


class OnnxTimer(_BackendTimer):
    """ONNX Runtime on the CPU; arguments and result as for ``pruning.budget``'s own timer."""

    backend = "onnxruntime"
    package = "onnxruntime"

    def _loaded(self, model: bytes, *, images: bool) -> Callable[[NDArray[np.float32]], Any]:
        session = onnx_session(model, self.threads)
        name = session.get_inputs()[0].name
        return lambda values: session.run(None, {name: values})


class OpenVinoTimer(_BackendTimer):
    """OpenVINO on the CPU.

    Args:
        threads: threads of the backend.
        seconds: how long one measurement goes on.
        least: passes that are measured however long they take.
        precision: ``f32`` or ``bf16``.
    """

    package = "openvino"
    merges = True

    def __init__(self, threads: int = 1, seconds: float = 0.5, least: int = 5, precision: str = "f32") -> None:
        super().__init__(threads, seconds, least)
        self.precision = precision

    @property
    def backend(self) -> str:  # type: ignore[override]
        """Its name, with the precision where that is not float32."""
        return "openvino" if self.precision == "f32" else f"openvino-{self.precision}"

    def _loaded(self, model: bytes, *, images: bool) -> Callable[[NDArray[np.float32]], Any]:
        # A layer alone would spend most of its time on reordering its input and output, which in a network it does not.
        request = openvino_request(model, self.threads, self.precision, channels_last=images)
        shape = tuple(request.get_input_tensor(0).shape)
        return lambda values: request.infer([values.reshape(shape)], share_inputs=True)


def serialised(net: nn.Module, input_shape: Sequence[int], *, merge: bool = False) -> bytes:
    """A network as ONNX, batch norm folded.

    Traced, because that takes milliseconds for a layer where the exporter of :mod:`~polyp_lightning.deploy.formats`
    takes a second; what is only timed needs no parity. Where tracing fails, that exporter has its turn.
    """
    example = (torch.zeros(tuple(input_shape)),)
    buffer = io.BytesIO()
    with quiet(), torch.no_grad():
        net = _as_deployed(net, example, merge=merge)
        try:
            torch.onnx.export(net, example, buffer, dynamo=False)  # type: ignore[arg-type]
        except Exception:
            # Whatever tracing stumbles over; if the network is at fault, the second attempt says so.
            need("onnxscript")
            exported = torch.onnx.export(net, example, dynamo=True, external_data=False, verbose=False)
            assert exported is not None  # noqa: S101 for the type checker
            return bytes(exported.model_proto.SerializeToString())
    return buffer.getvalue()


def _as_deployed(net: nn.Module, example: tuple[torch.Tensor], *, merge: bool) -> nn.Module:
    """A whole network with what exports rewrite (:func:`rewritten`); a layer as it is."""
    if next(net.children(), None) is None:
        return net
    try:
        graph = torch.export.export(net, example).module(check_guards=False)
    except Exception:
        # What can't be captured is timed as it is.
        return net
    deployed = rewritten(graph, merge=merge)
    # The exporter asks for a mode, which the module of an exported program refuses.
    return fx.GraphModule(deployed, deployed.graph)


def median_seconds(run: Callable[[], Any], seconds: float, least: int) -> float:
    """Median time of a call: two to warm up, then as many as fit into ``seconds``, at least ``least``."""
    for _ in range(2):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
