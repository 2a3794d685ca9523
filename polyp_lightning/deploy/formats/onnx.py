"""ONNX, for ONNX Runtime, OpenVINO and most others."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from polyp_lightning.deploy.export_format import ExportFormat, Program
from polyp_lightning.deploy.extras import need, silence_exporters
from polyp_lightning.deploy.runners.arrays import OPENVINO_BACKENDS, Frames, Runner
from polyp_lightning.deploy.runners.onnx_runner import OnnxRunner
from polyp_lightning.deploy.runners.openvino_runner import OpenVinoRunner
from polyp_lightning.deploy.signature import INPUT, OUTPUT

OPSET = 20
"""Operator set: the one that torch's exporter is written for, which therefore converts nothing."""

_NORMS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")


class Onnx(ExportFormat):
    """One ``.onnx`` with its weights inside."""

    name, suffix = "onnx", ".onnx"
    backends = ("onnxruntime", *OPENVINO_BACKENDS)
    packages = ("onnx", "onnxruntime")
    quantises = True

    def write(self, program: Program, path: Path, calibration: list[Frames] | None) -> dict[str, Any]:
        """See :class:`ExportFormat`."""
        model = convert(program)
        path.write_bytes((model if calibration is None else _quantise(model, calibration)).SerializeToString())
        return {"opset": OPSET}

    def load(self, path: Path, backend: str, threads: int) -> Runner:
        """See :class:`ExportFormat`."""
        if backend in OPENVINO_BACKENDS:
            return OpenVinoRunner(path, backend, threads)
        return OnnxRunner(path.read_bytes(), threads)


FORMAT = Onnx()


def convert(program: Program) -> Any:
    """Converts a captured network to an ``onnx.ModelProto``."""
    import torch

    need("onnxscript")
    with silence_exporters():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    assert exported is not None  # noqa: S101 for the type checker
    model = exported.model_proto
    _name_batch(model)
    return model


def _name_batch(model: Any) -> None:
    """Calls the free dimension ``batch`` wherever it appears: the exporter gives it the name of a symbol."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if free and dim.dim_param == free:
            dim.dim_param = "batch"


def _quantise(model: Any, calibration: list[Frames]) -> Any:
    """Returns an ``onnx.ModelProto`` with quantise–dequantise pairs (QDQ), by ONNX Runtime's static quantisation.

    Weights are int8 per output channel and activations uint8: the pair for which x86 has instructions.
    """
    need("onnxruntime")
    onnx, quantization = need("onnx"), need("onnxruntime.quantization")
    logging.getLogger().addFilter(_drop_advice)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantization.quantize_static(
            str(source),
            str(target),
            _Reader(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=list_float_nodes(model),
        )
        return onnx.load(str(target))


def list_float_nodes(model: Any) -> list[str]:
    """Lists the names of the nodes that are not quantised.

    Those before the first convolution and after the last are cheap and touchy. Group and layer norm need their sums in
    float, and ONNX Runtime can't quantise two norms that share a constant, as exported ones do.
    """
    nodes = list(model.graph.node)
    convolutions = [i for i, node in enumerate(nodes) if node.op_type in ("Conv", "ConvTranspose")]
    if not convolutions:
        return []
    norms = [node for node in nodes[convolutions[0] : convolutions[-1]] if node.op_type in _NORMS]
    return [node.name for node in [*nodes[: convolutions[0]], *norms, *nodes[convolutions[-1] + 1 :]]]


class _Reader:
    """Frames one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, frames: list[Frames]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {INPUT: frame}


def _drop_advice(record: logging.LogRecord) -> bool:
    """Drops the root logger's hint at a preprocessing step: torch's exporter has inferred the shapes already."""
    return "pre-process" not in record.getMessage()
