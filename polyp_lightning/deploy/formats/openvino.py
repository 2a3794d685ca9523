"""OpenVINO's own format, read faster than ONNX and merged for speed."""

from pathlib import Path
from typing import Any

from polyp_lightning.common.log_lines import hush
from polyp_lightning.deploy.export_format import ExportFormat, Program
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.formats.onnx import convert
from polyp_lightning.deploy.runners.arrays import OPENVINO_BACKENDS, Frames, Runner
from polyp_lightning.deploy.runners.openvino_runner import OpenVinoRunner, share_openvino_core


class OpenVino(ExportFormat):
    """An ``.xml`` and its weights in a ``.bin``."""

    name, suffix, companions = "openvino", ".xml", (".bin",)
    backends = OPENVINO_BACKENDS
    packages = ("openvino", "nncf")
    quantises = True
    merges_upsampling = True

    def write(self, program: Program, path: Path, calibration: list[Frames] | None) -> dict[str, Any]:
        """See :class:`ExportFormat`."""
        # By way of ONNX, which OpenVINO reads faster than torch's graphs.
        model = share_openvino_core().read_model(convert(program).SerializeToString())
        model = model if calibration is None else _quantise(model, calibration)
        # Halved weights would move probabilities by more than parity allows.
        need("openvino").save_model(model, str(path), compress_to_fp16=False)
        return {}

    def load(self, path: Path, backend: str, threads: int) -> Runner:
        """See :class:`ExportFormat`."""
        return OpenVinoRunner(path, backend, threads)


FORMAT = OpenVino()


def _quantise(model: Any, calibration: list[Frames]) -> Any:
    """Returns an ``openvino.Model`` in 8 bits, by NNCF's post-training quantisation."""
    # It looks for a CUDA compiler at its import, and says so.
    with hush("torch.utils.cpp_extension"):
        nncf = need("nncf")
    with hush("nncf"):
        # Activations keep a zero point: after a ReLU, half of a symmetric range would stay empty.
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=_list_products_at_the_end(model)),
        )


def _list_products_at_the_end(model: Any) -> list[str]:
    """Lists the products of matrices behind the last convolution: they resize its result."""
    ops = list(model.get_ordered_ops())
    convolutions = [i for i, op in enumerate(ops) if op.get_type_name() in ("Convolution", "ConvolutionBackpropData")]
    behind = ops[convolutions[-1] :] if convolutions else []
    return [op.get_friendly_name() for op in behind if op.get_type_name() == "MatMul"]
