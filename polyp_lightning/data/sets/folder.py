"""Any folder of images/ and masks/: divided by the lists in it, or by a carve-out."""

from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.dataset import PARTS, Dataset, DatasetSpec
from polyp_lightning.data.listing import is_called_image, normal_name
from polyp_lightning.data.sources import FileSource, ImagePair, find_pairs
from polyp_lightning.data.splitting import CARVE_SEED, carve_out, check_parts, read_list

LISTS, TENTHS = "lists", "80-10-10"


def find_folder(root: Path) -> list[ImagePair]:
    """Finds the pairs of ``images`` and ``masks`` in any folder; without ``masks`` the images alone.

    Links are followed, wherever they lead.

    Raises:
        DataError: ``images`` is missing or empty, or an image has no partner.
    """
    images, masks = root / "images", root / "masks"
    if not images.is_dir():
        msg = (
            f"there is no folder {images}. For --data.name=folder, --data_root names a folder that holds images/ and, "
            "but for prediction, masks/ with files of the same names. Images alone: predict --source FOLDER."
        )
        raise DataError(msg)
    return find_pairs(images, masks if masks.is_dir() else None)


def load(root: Path, split: str | None, _frames: int) -> Dataset:
    """Finds and divides the images; without a split by the folder's lists, if it holds any."""
    pairs = find_folder(root)
    source = FileSource("folder", pairs)
    lists = [root / f"{part}.txt" for part in PARTS if (root / f"{part}.txt").is_file()]
    if split == LISTS and not lists:
        msg = (
            f"--data.split=lists, but {root} holds none of train.txt, val.txt and test.txt: "
            "write them, or leave the split out."
        )
        raise DataError(msg)
    if lists and split != TENTHS:
        split, protocol = LISTS, f"the lists {', '.join(path.name for path in lists)} in the folder"
        parts = _read_lists(lists, pairs, root)
    elif source.has_masks:
        split, parts = TENTHS, _divide(source.names, root)
        protocol = (
            f"a random tenth tests, another validates (seed {CARVE_SEED}); frames of one patient may be on both sides"
        )
    else:
        split, protocol, parts = TENTHS, "no masks: all images are for prediction", {}
    ids = {part: [("folder", name) for name in parts.get(part, [])] for part in PARTS}
    every = [("folder", name) for name in source.names]
    tests = {f"folder-{len(ids['test'])}": ids["test"]}
    return Dataset("folder", split, protocol, {"folder": source}, ids["train"], ids["val"], tests, ids["test"] or every)


def _read_lists(lists: Sequence[Path], pairs: Sequence[ImagePair], root: Path) -> dict[str, list[str]]:
    """Reads part → names without suffix; the lists may name files with their suffix, another image's, or none."""
    known = {pair.name: pair.name for pair in pairs} | {normal_name(pair.image.name): pair.name for pair in pairs}

    def find(listed: str) -> str:
        name = normal_name(listed)
        return Path(name).stem if name not in known and is_called_image(name) else known.get(name, name)

    parts = {path.stem: [find(name) for name in read_list(path)] for path in lists}
    check_parts(parts, [pair.name for pair in pairs], str(root / "images"), "Correct the list, or add the images.")
    return parts


def _divide(names: Sequence[str], root: Path) -> dict[str, list[str]]:
    """Divides names into eight, one and one tenth, at least one name each."""
    if len(names) < 3:
        msg = f"{root / 'images'} holds {len(names)} images, too few to train, validate and test on: at least 3."
        raise DataError(msg)
    tenth = max(1, round(len(names) / 10))
    rest, test = carve_out(names, tenth, CARVE_SEED)
    train, val = carve_out(rest, tenth, CARVE_SEED)
    return {"train": train, "val": val, "test": test}


SPEC = DatasetSpec("folder", (LISTS, TENTHS), load, mixes=False)
