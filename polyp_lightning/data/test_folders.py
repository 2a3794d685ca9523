"""Folders to test on that are no part of the data set that was trained on: ``--data.tests``."""

import re
from pathlib import Path

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.dataset import Dataset
from polyp_lightning.data.masks import parse_colours
from polyp_lightning.data.sets import pranet
from polyp_lightning.data.sources import FileSource, find_pairs


def parse_tests(text: str, root: Path) -> dict[str, Path]:
    """Reads the option: test set → its folder.

    ``NAME=FOLDER`` names a folder; a name alone is a folder of ``TestDataset`` below the folder of data sets, as the
    literature distributes them, and ``pranet`` stands for PraNet's five.

    Raises:
        ConfigError: the text names no test set, or two of the same name.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    words = [name for word in words for name in (pranet.TESTS if word == "pranet" else (word,))]
    pairs = [word.partition("=")[::2] for word in words]
    found = {name: Path(folder).expanduser() if folder else root / pranet.TEST_FOLDER / name for name, folder in pairs}
    if not found or len({_key(name) for name in found}) < len(pairs) or not all(map(_key, found)):
        msg = (
            f"--data.tests={text} does not name test sets, each once: give NAME=FOLDER,NAME=FOLDER, or names of "
            f"folders in {root / pranet.TEST_FOLDER}; pranet is {', '.join(pranet.TESTS)}"
        )
        raise ConfigError(msg)
    return found


def load_tests(folders: dict[str, Path], mask_colours: str) -> Dataset:
    """Finds the images of each folder's ``images`` and ``masks``: all are tested on, none is trained on.

    ``mask_colours`` are those of `PolypDataModule`.

    Raises:
        DataError: a folder or a partner is missing.
    """
    data = Dataset("tests", " ".join(folders), "all images of folders named by --data.tests", {}, [], [], {}, [])
    for name, folder in folders.items():
        for part in ("images", "masks"):
            if not (folder / part).is_dir():
                remedy = f"Name another with --data.tests {name}=FOLDER."
                msg = f"test set {name}: there is no folder {folder / part}. {remedy}"
                raise DataError(msg)
        source = FileSource(_key(name), find_pairs(folder / "images", folder / "masks"))
        source.mask_colours = parse_colours(mask_colours)
        images = [(source.key, image) for image in source.names]
        data.sources[source.key] = source
        data.tests[f"{name}-{len(images)}"] = images
        data.predict.extend(images)
    return data


def _key(name: str) -> str:
    """A source's key: what a cache's name may hold."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
