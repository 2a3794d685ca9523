"""Kvasir-SEG: 1000 images with masks (Jha et al., 2020, doi 10.1007/978-3-030-37734-2_37)."""

from pathlib import Path

from polyp_lightning.data.dataset import PublishedImages, Split, describe_published
from polyp_lightning.data.fetching import Archive

_REMEDY = (
    "Run `make data` to fetch it, or unpack the official kvasir-seg.zip there; --data_root names the folder that holds "
    "Kvasir-SEG/."
)

IMAGES = PublishedImages("kvasir", (("Kvasir-SEG/images", "Kvasir-SEG/masks"),), _REMEDY)

ARCHIVE = Archive("https://datasets.simula.no/downloads/kvasir-seg.zip", "Kvasir-SEG", "kvasir-sha256.txt", _REMEDY)


def fetch(root: Path) -> str:
    """Downloads it below a folder; returns what to tell the user."""
    return (
        f"{ARCHIVE.fetch(root)}: the official Kvasir-SEG, every file checked. For research and education; "
        "cite Jha et al. 2020.\n"
        "CVC-ClinicDB has to be asked for: `python -m polyp_lightning data fetch clinicdb` says how."
    )


SPEC = describe_published(
    "kvasir",
    {
        "880-120": Split(
            "Kvasir-SEG's published 880/120: the 120 test, 100 of the 880 validate (fixed, near-duplicates on one "
            "side)",
            {IMAGES: "kvasir-880-120"},
        ),
        # Trains on 80 of the 100 validation images too, by settings that were chosen before.
        "880-120-final": Split(
            "Kvasir-SEG's published 880/120: the 120 test; 860 of the 880 train, the other 20 are too few to choose by",
            {IMAGES: "kvasir-880-120-final"},
        ),
    },
    fetch,
    ARCHIVE.verify,
)
