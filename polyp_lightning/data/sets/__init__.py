"""The data sets by name: each module in this folder describes one as ``SPEC``, and is found because it is here.

The lists of their splits, and what is known about them, are in ``data/splits``.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data.dataset import Dataset, DatasetSpec

_SPECS: list[DatasetSpec] = [import_module(f"{__name__}.{module.name}").SPEC for module in iter_modules(__path__)]

DATASETS = {spec.name: spec for spec in _SPECS}
"""Name → data set."""

if TYPE_CHECKING:
    DatasetName = str
else:
    # The parser shows and checks the names.
    DatasetName = Literal[tuple(DATASETS)]


def check_choice(name: str, split: str | None) -> None:
    """Refuses a data set or a split that does not exist; names what is allowed."""
    if name not in DATASETS:
        msg = f"--data.name={name} is no data set; allowed: {', '.join(DATASETS)}."
        raise ConfigError(msg)
    splits = DATASETS[name].splits
    if split is not None and split not in splits:
        msg = f"--data.split={split} is no split of {name}; allowed: {', '.join(splits)}."
        raise ConfigError(msg)


def load_dataset(name: str, root: Path, split: str | None, phantom_frames: int) -> Dataset:
    """Finds a data set's images and divides them by one of its splits, or its default; reads names only, no pixels.

    ``root`` is the folder of data sets, for ``folder`` the folder itself.
    """
    check_choice(name, split)
    return DATASETS[name].load(root, split, phantom_frames)


def dataset_of(facts: Mapping[str, Any], root: Path) -> Dataset:
    """Finds the data set that a checkpoint was trained on, as its ``facts`` say, divided as it was then."""
    if "data" not in facts:
        msg = "the checkpoint does not say what it was trained on, so its training images can't be found"
        raise ConfigError(msg)
    frames = sum(int(facts.get(part, 0)) for part in ("train", "val", "test"))
    return load_dataset(str(facts["data"]), root, str(facts["split"]), frames)
