"""Finds the image and mask pairs of each data set in the layouts in which it is distributed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyp_lightning.common.errors import DataError, listed
from polyp_lightning.data.reading import SUFFIXES

KVASIR_FOLDER = "Kvasir-SEG"
CLINICDB_FOLDER = "CVC-ClinicDB"

KVASIR_REMEDY = (
    "Run `make data` to fetch it, or unpack the official kvasir-seg.zip there; --data.root names the folder that holds "
    f"{KVASIR_FOLDER}/."
)
CLINICDB_REMEDY = (
    "Ask for it at polyp.grand-challenge.org/CVCClinicDB and unpack it there; --data.root names the folder that holds "
    f"{CLINICDB_FOLDER}/."
)


@dataclass(frozen=True)
class Frame:
    """One image on disk.

    Attributes:
        name: The file's name without suffix.
        image: The image file.
        mask: The mask file; None where there are no masks.
    """

    name: str
    image: Path
    mask: Path | None


def find_kvasir(root: Path) -> list[Frame]:
    """Finds Kvasir-SEG as its zip unpacks: ``Kvasir-SEG/images`` and ``Kvasir-SEG/masks``.

    Raises:
        DataError: If a folder is missing or empty, or an image has no partner.
    """
    return find_pairs(
        *_first_layout([(root / KVASIR_FOLDER / "images", root / KVASIR_FOLDER / "masks")], KVASIR_REMEDY)
    )


def find_clinicdb(root: Path) -> list[Frame]:
    """Finds CVC-ClinicDB as PNG, as the official TIFFs, or as flat ``images`` and ``masks``, in this order.

    Raises:
        DataError: If no layout is there, a folder is empty, or an image has no partner.
    """
    home = root / CLINICDB_FOLDER
    layouts = [
        (home / "PNG" / "Original", home / "PNG" / "Ground Truth"),
        (home / "Original", home / "Ground Truth"),
        (home / "images", home / "masks"),
    ]
    return find_pairs(*_first_layout(layouts, CLINICDB_REMEDY))


def find_folder(root: Path) -> list[Frame]:
    """Finds the pairs of ``images`` and ``masks`` in any folder; without ``masks`` the images alone.

    Raises:
        DataError: If ``images`` is missing or empty, or an image has no partner.
    """
    images, masks = root / "images", root / "masks"
    if not images.is_dir():
        msg = (
            f"there is no folder {images}. For --data.name=folder, --data.root names a folder that holds images/ and, "
            "but for prediction, masks/ with files of the same names."
        )
        raise DataError(msg)
    return find_pairs(images, masks if masks.is_dir() else None)


def find_pairs(images: Path, masks: Path | None) -> list[Frame]:
    """Pairs the files of two folders by name, whatever their suffixes; sorted by name.

    Raises:
        DataError: If there are no images, two files of a folder share a name, or a file has no partner.
    """
    by_name = _files(images)
    if not by_name:
        msg = f"{images} holds no images. Files that end in {', '.join(SUFFIXES)} are read: put them there."
        raise DataError(msg)
    if masks is None:
        return [Frame(name, path, None) for name, path in by_name.items()]
    partners = _files(masks)
    for have, lack, folder in ((by_name, partners, masks), (partners, by_name, images)):
        alone = [have[name].name for name in have if name not in lack]
        if alone:
            msg = (
                f"no file in {folder} is called like {listed(alone)}, apart from the suffix. "
                "Each image needs one mask of its name: add the missing files, or remove these."
            )
            raise DataError(msg)
    return [Frame(name, path, partners[name]) for name, path in by_name.items()]


def _first_layout(layouts: Sequence[tuple[Path, Path]], remedy: str) -> tuple[Path, Path]:
    """The first layout of which a folder exists; both must."""
    for images, masks in layouts:
        if images.is_dir() and masks.is_dir():
            return images, masks
        if images.is_dir() or masks.is_dir():
            msg = f"there is no folder {masks if images.is_dir() else images}, only its partner. {remedy}"
            raise DataError(msg)
    tried = " or ".join(f"{images} and {masks.name}" for images, masks in layouts)
    msg = f"the data set is not there: looked for {tried}. {remedy}"
    raise DataError(msg)


def _files(folder: Path) -> dict[str, Path]:
    """Name → file of every image in a folder, sorted; hidden files and other kinds are passed over."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            msg = f"{folder} holds both {found[path.stem].name} and {path.name}. Names must differ: remove one of them."
            raise DataError(msg)
        found[path.stem] = path
    return found
