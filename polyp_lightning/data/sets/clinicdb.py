"""CVC-ClinicDB: 612 images of 29 video sequences, given out on request."""

from pathlib import Path

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.dataset import PublishedImages, Split, describe_published

PAGE = "https://polyp.grand-challenge.org/CVCClinicDB/"

IMAGES = PublishedImages(
    "clinicdb",
    (
        ("CVC-ClinicDB/PNG/Original", "CVC-ClinicDB/PNG/Ground Truth"),
        ("CVC-ClinicDB/Original", "CVC-ClinicDB/Ground Truth"),
        ("CVC-ClinicDB/images", "CVC-ClinicDB/masks"),
    ),
    "Ask for it at polyp.grand-challenge.org/CVCClinicDB and unpack it there; --data_root names the folder that holds "
    "CVC-ClinicDB/.",
)


def refuse_fetch(root: Path) -> str:
    """Says how to get it.

    Raises:
        DataError: always.
    """
    msg = (
        f"CVC-ClinicDB cannot be fetched by a program: its owners give it out for research, on a form at "
        f"{PAGE}. Unpack what they send so that {root / 'CVC-ClinicDB'} holds the folders Original and "
        "'Ground Truth' (the TIFFs), or PNG/Original and 'PNG/Ground Truth'."
    )
    raise DataError(msg)


SPEC = describe_published(
    "clinicdb",
    {
        "sequence": Split(
            "CVC-ClinicDB by sequence: 19 sequences train, 3 validate, 7 test; none is on two sides",
            {IMAGES: "clinicdb-sequence"},
        ),
        # Trains on two of the three validation sequences too, by settings that were chosen before.
        "sequence-final": Split(
            "CVC-ClinicDB by sequence: the 7 test; 21 of the other 22 train, the last is too few to choose by",
            {IMAGES: "clinicdb-sequence-final"},
        ),
        "pranet": Split(
            "PraNet's random 550/62 of CVC-ClinicDB, 55 of the 550 validate; each test frame's sequence is in train "
            "too",
            {IMAGES: "clinicdb-pranet"},
        ),
    },
    refuse_fetch,
)
