"""PyTorch's ``ExportedProgram``. Only files of your own: what ``torch.export.load`` reads may hold code."""

from pathlib import Path
from typing import Any

from polyp_lightning.deploy.export_format import ExportFormat, Program
from polyp_lightning.deploy.extras import silence_exporters
from polyp_lightning.deploy.runners.arrays import TORCH_BACKENDS, Frames, Runner


class Pt2(ExportFormat):
    """One ``.pt2``."""

    name, suffix = "pt2", ".pt2"
    backends = TORCH_BACKENDS

    def write(self, program: Program, path: Path, calibration: list[Frames] | None) -> dict[str, Any]:
        """See :class:`ExportFormat`."""
        import torch

        with silence_exporters():
            torch.export.save(program, path)
        return {}

    def load(self, path: Path, backend: str, threads: int) -> Runner:
        """See :class:`ExportFormat`."""
        import torch

        from polyp_lightning.deploy.runners.torch_runner import TorchRunner

        return TorchRunner(torch.export.load(path).module(), backend, threads)


FORMAT = Pt2()
