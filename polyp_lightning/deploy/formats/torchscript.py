"""TorchScript, for programs in C++ and for older PyTorch. Only files of your own: it is code by nature."""

import warnings
from pathlib import Path
from typing import Any

from polyp_lightning.deploy.export_format import ExportFormat, Program
from polyp_lightning.deploy.extras import silence_exporters
from polyp_lightning.deploy.runners.arrays import Frames, Runner


class TorchScript(ExportFormat):
    """One ``.torchscript``, traced."""

    name, suffix = "torchscript", ".torchscript"
    backends = ("torch", "cuda")

    def write(self, program: Program, path: Path, calibration: list[Frames] | None) -> dict[str, Any]:
        """See :class:`ExportFormat`."""
        import torch

        (frames,), _ = program.example_inputs
        with silence_exporters(), torch.no_grad():
            torch.jit.save(torch.jit.trace(program.module(), frames[:1], check_trace=False), path)
        return {}

    def load(self, path: Path, backend: str, threads: int) -> Runner:
        """See :class:`ExportFormat`."""
        import torch

        from polyp_lightning.deploy.runners.torch_runner import TorchRunner

        with warnings.catch_warnings():
            # Deprecated, and what programs in C++ still read.
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(path, map_location="cpu")
        return TorchRunner(module, backend, threads)


FORMAT = TorchScript()
