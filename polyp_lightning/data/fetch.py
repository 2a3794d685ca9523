"""Fetches the data sets that may be fetched, and says what to do about the others."""

import tempfile
import zipfile
from pathlib import Path

import pooch

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.layouts import CLINICDB_FOLDER, KVASIR_FOLDER
from polyp_lightning.data.verification import Verification, verify_kvasir

KVASIR_URL = "https://datasets.simula.no/downloads/kvasir-seg.zip"
"""The official address of Kvasir-SEG (Jha et al. 2020, doi 10.1007/978-3-030-37734-2_37)."""

CLINICDB_PAGE = "https://polyp.grand-challenge.org/CVCClinicDB/"


def fetch_kvasir(root: Path) -> Path:
    """Downloads Kvasir-SEG, checks every file against the shipped hashes, and only then puts it in its place.

    Args:
        root: The folder of data sets; made if it is not there.

    Returns:
        The folder ``Kvasir-SEG`` in it; left as it is if the official files are in it already.

    Raises:
        DataError: If another folder is in the way, nothing can be downloaded, or other bytes arrive.
    """
    home = root / KVASIR_FOLDER
    if home.exists():
        found = verify_kvasir(home)
        if found.official:
            return home
        msg = f"{home} is there, but is not the official data set: {found}\nMove it away, then fetch again."
        raise DataError(msg)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kvasir-", dir=root) as scratch:
        unpacked = _unpack(_download(Path(scratch), home), Path(scratch) / "unpacked")
        found = verify_kvasir(unpacked)
        if not _complete(found):
            msg = f"what {KVASIR_URL} sent is not the official data set: {found}\nNothing was kept. Try again later."
            raise DataError(msg)
        unpacked.rename(home)
    return home


def refuse_clinicdb(root: Path) -> None:
    """Says how to get CVC-ClinicDB, which is given out on request only.

    Raises:
        DataError: Always.
    """
    msg = (
        f"CVC-ClinicDB cannot be fetched by a program: its owners give it out for research, on a form at "
        f"{CLINICDB_PAGE}. Unpack what they send so that {root / CLINICDB_FOLDER} holds the folders Original and "
        "'Ground Truth' (the TIFFs), or PNG/Original and 'PNG/Ground Truth'."
    )
    raise DataError(msg)


def _download(scratch: Path, home: Path) -> Path:
    """Downloads the archive; every file in it is checked later, so its own hash need not be known."""
    try:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
        return Path(pooch.retrieve(KVASIR_URL, None, fname="kvasir-seg.zip", path=scratch, downloader=downloader))
    except (OSError, ValueError) as error:
        msg = (
            f"cannot download {KVASIR_URL}: {error}\nIs there a network? Where there is none, download that file on "
            f"another machine and unpack it so that {home} holds images/ and masks/, then run the verb verify."
        )
        raise DataError(msg) from error


def _unpack(archive: Path, target: Path) -> Path:
    """Unpacks the archive and returns the folder in it that holds images/ and masks/."""
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)  # refuses names that lead out of the target by itself
    except (zipfile.BadZipFile, OSError) as error:
        msg = f"what {KVASIR_URL} sent is no intact archive: {error}. Nothing was kept. Try again."
        raise DataError(msg) from error
    for images in sorted(target.rglob("images")):
        if (images.parent / "masks").is_dir():
            return images.parent
    msg = f"what {KVASIR_URL} sent holds no folders images/ and masks/. Nothing was kept. Try again later."
    raise DataError(msg)


def _complete(found: Verification) -> bool:
    """Whether every published file is there unchanged; files besides do no harm in a fresh archive."""
    return not (found.differing or found.missing)
