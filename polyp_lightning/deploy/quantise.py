"""Post-training quantisation to 8 bits, with the scales read off training frames."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyp_lightning.deploy.bundle import INPUT
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.samples import Sample

CALIBRATION_FRAMES = 128
_NORMS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")


def quantise_onnx(model: Any, samples: Sequence[Sample]) -> Any:
    """A copy of an ``onnx.ModelProto`` with quantise–dequantise pairs (QDQ), by ONNX Runtime's static quantisation.

    Weights are int8 per output channel and activations uint8: the pair for which x86 has instructions. What comes
    before the first convolution and after the last stays in float, and so do norms that compute statistics.

    Args:
        model: the float model.
        samples: frames that the network was trained on.
    """
    need("onnxruntime")
    onnx, quantization = need("onnx"), need("onnxruntime.quantization")
    logging.getLogger().addFilter(_no_advice)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantization.quantize_static(
            str(source),
            str(target),
            _Reader(samples),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=float_nodes(model),
        )
        return onnx.load(str(target))


def quantise_openvino(model: Any, samples: Sequence[Sample]) -> Any:
    """An ``openvino.Model`` in 8 bits, by NNCF's post-training quantisation.

    Args:
        model: the float model.
        samples: frames that the network was trained on.
    """
    # It looks for a CUDA compiler at its import, and says so.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    nncf = need("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset([sample.frame[None] for sample in samples])
    # Activations keep a zero point: after a ReLU, half of a symmetric range would stay empty.
    return nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        fast_bias_correction=True,
        ignored_scope=nncf.IgnoredScope(names=_products_at_the_end(model)),
    )


def _products_at_the_end(model: Any) -> list[str]:
    """Names of the products of matrices behind an OpenVINO model's last convolution: they resize what it says."""
    ops = list(model.get_ordered_ops())
    convolutions = [i for i, op in enumerate(ops) if op.get_type_name() in ("Convolution", "ConvolutionBackpropData")]
    behind = ops[convolutions[-1] :] if convolutions else []
    return [op.get_friendly_name() for op in behind if op.get_type_name() == "MatMul"]


def float_nodes(model: Any) -> list[str]:
    """Names of the nodes of an ONNX graph that are not quantised.

    Those before its first convolution and after its last are cheap and touchy. Group and layer norm need their sums in
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

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._frames = iter([{INPUT: sample.frame[None]} for sample in samples])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._frames, None)


def _no_advice(record: logging.LogRecord) -> bool:
    """Drops the root logger's hint at a preprocessing step: torch's exporter has inferred the shapes already."""
    return "pre-process" not in record.getMessage()
