"""Are the files on disk the official Kvasir-SEG, byte for byte?"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from polyp_lightning.common.errors import DataError, listed
from polyp_lightning.data.layouts import KVASIR_REMEDY
from polyp_lightning.data.sources import file_digest
from polyp_lightning.data.splitting import shipped_text


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a folder with published hashes; names are relative to the folder.

    Attributes:
        same: How many files are as published.
        differing: Files with other bytes.
        missing: Published files that are not there.
        extra: Files in images/ and masks/ that were never published.
    """

    same: int
    differing: list[str]
    missing: list[str]
    extra: list[str]

    @property
    def official(self) -> bool:
        """Whether everything is as published, and nothing is there besides."""
        return not (self.differing or self.missing or self.extra)

    def __str__(self) -> str:
        """The outcome in words, one line for each kind of fault."""
        if self.official:
            return f"all {self.same} files are the official ones"
        faults = {"differ": self.differing, "are missing": self.missing, "are not part of it": self.extra}
        lines = [f"{len(names)} {fault}: {listed(names)}" for fault, names in faults.items() if names]
        return "\n".join([f"{self.same} files are the official ones", *lines])


def kvasir_hashes() -> dict[str, str]:
    """SHA-256 of the 2000 official files: ``images/….jpg`` and ``masks/….jpg`` → hexadecimal digest."""
    rows = (line.split(maxsplit=1) for line in shipped_text("kvasir-sha256.txt").splitlines())
    return {name: digest for digest, name in rows}


def verify_kvasir(folder: Path) -> Verification:
    """Compares a folder ``Kvasir-SEG`` with the shipped hashes.

    Raises:
        DataError: If the folder is not there, or a file cannot be read.
    """
    if not folder.is_dir():
        msg = f"there is no folder {folder}. {KVASIR_REMEDY}"
        raise DataError(msg)
    return compare(folder, kvasir_hashes())


def compare(folder: Path, expected: Mapping[str, str]) -> Verification:
    """Compares the files in images/ and masks/ of a folder with digests by relative name."""
    found = {
        path.relative_to(folder).as_posix(): path
        for kind in ("images", "masks")
        for path in (folder / kind).glob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    both = sorted(expected.keys() & found.keys())
    with ThreadPoolExecutor() as pool:
        digests = dict(zip(both, pool.map(lambda name: file_digest(found[name]), both), strict=True))
    differing = [name for name in both if digests[name] != expected[name]]
    return Verification(
        same=len(both) - len(differing),
        differing=differing,
        missing=sorted(expected.keys() - found.keys()),
        extra=sorted(found.keys() - expected.keys()),
    )
