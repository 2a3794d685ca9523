"""Writing a captured graph in each format."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from polyp_lightning.deploy.bundle import INPUT, OUTPUT
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.runtime import openvino_core

OPSET = 20
"""ONNX operator set: the one that torch's exporter is written for, so that nothing has to be converted."""


def onnx_model(program: ExportedProgram) -> Any:
    """The graph as an ``onnx.ModelProto`` with its weights inside.

    Raises:
        ConfigError: the packages of the extra ``deploy`` are not installed.
    """
    need("onnxscript")
    with quiet():
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


def openvino_model(onnx_bytes: bytes) -> Any:
    """An ``openvino.Model`` of an ONNX model: read by OpenVINO's own frontend, which is faster than from torch."""
    return openvino_core().read_model(onnx_bytes)


def write_onnx(model: Any, path: Path) -> None:
    """Writes an ``onnx.ModelProto``."""
    path.write_bytes(model.SerializeToString())


def write_openvino(model: Any, path: Path) -> None:
    """Writes an ``openvino.Model`` as ``path`` (.xml) and the ``.bin`` beside it; weights stay float32."""
    # Halved weights would move probabilities by more than parity allows.
    need("openvino").save_model(model, str(path), compress_to_fp16=False)


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Writes an ``ExportedProgram``; ``torch.export.load`` reads it."""
    with quiet():
        torch.export.save(program, path)


def write_torchscript(program: ExportedProgram, image_size: int, path: Path) -> None:
    """Writes a traced TorchScript module, for programs in C++ and for older PyTorch."""
    frame = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
    with quiet(), torch.no_grad():
        torch.jit.save(torch.jit.trace(program.module(), frame, check_trace=False), path)


def _name_batch(model: Any) -> None:
    """Calls the free dimension ``batch`` wherever it appears: the exporter gives it the name of a symbol."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if free and dim.dim_param == free:
            dim.dim_param = "batch"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own deprecations and versions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
