"""Fetches published archives, and compares files on disk with the hashes of the published ones."""

import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from polyp_lightning.common.errors import DataError, join_names
from polyp_lightning.data.sources import file_digest
from polyp_lightning.data.splitting import shipped_text


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a folder with published hashes; names are relative to the folder.

    Attributes:
        same: how many files are as published.
        differing: files with other bytes.
        missing: published files that are not there.
        extra: files in images/ and masks/ that were never published.
    """

    folder: Path
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
        lines = [f"{len(names)} {fault}: {join_names(names)}" for fault, names in faults.items() if names]
        return "\n".join([f"{self.same} files are the official ones", *lines])


@dataclass(frozen=True)
class Archive:
    """A zip that may be fetched; every file in it is checked, so its own hash need not be known.

    Attributes:
        url: its official address.
        folder: the folder of images/ and masks/ that it becomes.
        hashes: the file in ``data/splits`` that lists the SHA-256 of its files.
        remedy: how to get it, for messages.
    """

    url: str
    folder: str
    hashes: str
    remedy: str

    def verify(self, root: Path) -> Verification:
        """Compares the unpacked folder below ``root`` with the shipped hashes."""
        home = root / self.folder
        if not home.is_dir():
            msg = f"there is no folder {home}. {self.remedy}"
            raise DataError(msg)
        return compare(home, read_hashes(self.hashes))

    def fetch(self, root: Path) -> Path:
        """Downloads the archive, checks every file against the shipped hashes, and only then puts it in its place.

        Returns the unpacked folder, which is left as it is if the official files are in it already.

        Raises:
            DataError: another folder is in the way, nothing can be downloaded, or other bytes arrive.
        """
        home = root / self.folder
        if home.exists():
            found = self.verify(root)
            if found.official:
                return home
            msg = f"{home} is there, but is not the official data set: {found}\nMove it away, then fetch again."
            raise DataError(msg)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
            unpacked = self._unpack(self._download(Path(scratch), home), Path(scratch) / "unpacked")
            found = compare(unpacked, read_hashes(self.hashes))
            # Other files do no harm in a fresh archive.
            if found.differing or found.missing:
                msg = f"what {self.url} sent is not the official data set: {found}\nNothing was kept. Try again later."
                raise DataError(msg)
            unpacked.rename(home)
        return home

    def _download(self, scratch: Path, home: Path) -> Path:
        import pooch  # imports requests, which few runs need

        try:
            downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
            return Path(pooch.retrieve(self.url, None, fname="archive.zip", path=scratch, downloader=downloader))
        except (OSError, ValueError) as error:
            msg = (
                f"cannot download {self.url}: {error}\nIs there a network? Where there is none, download that file on "
                f"another machine and unpack it so that {home} holds images/ and masks/, then run the verb verify."
            )
            raise DataError(msg) from error

    def _unpack(self, archive: Path, target: Path) -> Path:
        """Unpacks the archive and returns the folder in it that holds images/ and masks/."""
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(target)  # refuses names that lead out of the target by itself
        except (zipfile.BadZipFile, OSError) as error:
            msg = f"what {self.url} sent is no intact archive: {error}. Nothing was kept. Try again."
            raise DataError(msg) from error
        for images in sorted(target.rglob("images")):
            if (images.parent / "masks").is_dir():
                return images.parent
        msg = f"what {self.url} sent holds no folders images/ and masks/. Nothing was kept. Try again later."
        raise DataError(msg)


def read_hashes(file: str) -> dict[str, str]:
    """Reads a shipped list of SHA-256: ``images/….jpg`` and ``masks/….jpg`` → hexadecimal digest."""
    rows = (line.split(maxsplit=1) for line in shipped_text(file).splitlines())
    return {name: digest for digest, name in rows}


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
        folder=folder,
        same=len(both) - len(differing),
        differing=differing,
        missing=sorted(expected.keys() - found.keys()),
        extra=sorted(found.keys() - expected.keys()),
    )
