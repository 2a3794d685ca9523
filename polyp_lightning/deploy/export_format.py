"""What an export format is; each one is a file in :mod:`polyp_lightning.deploy.formats`."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from polyp_lightning.deploy.runners.arrays import Frames, Runner

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Program: TypeAlias = "ExportedProgram"
"""A captured network; a string, since importing PyTorch is left to the formats that need it."""


class ExportFormat(ABC):
    """How models of one format are called, written and loaded.

    A format's file is imported by every verb: it imports PyTorch and the packages of the extra ``deploy`` only inside
    the methods that need them.

    Attributes:
        name: as in ``export --format``, and in sidecars.
        suffix: of the model's file, with its dot.
        companions: suffixes of further files, which lie beside it.
        backends: what runs it, the usual one first.
        packages: whose versions a sidecar is to hold.
        quantises: whether ``write`` can make 8 bits of it.
        merges_upsampling: whether doublings are merged into the convolutions behind them; see ``capture``.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    companions: ClassVar[tuple[str, ...]] = ()
    backends: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    quantises: ClassVar[bool] = False
    merges_upsampling: ClassVar[bool] = False

    def list_files(self, model: Path) -> list[Path]:
        """Returns the files that make a model, its own first."""
        return [model, *(model.with_suffix(suffix) for suffix in self.companions)]

    @abstractmethod
    def write(self, program: Program, path: Path, calibration: list[Frames] | None) -> dict[str, Any]:
        """Writes a captured network, in 8 bits where there are training frames (1, S, S, 3) to calibrate with.

        Returns what a sidecar of this format holds beyond that of any other.
        """

    @abstractmethod
    def load(self, path: Path, backend: str, threads: int) -> Runner:
        """Loads a model into one of the format's backends; errors are those of the runtime."""
