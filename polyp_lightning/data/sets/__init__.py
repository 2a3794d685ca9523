"""The data sets by name: each module in this folder describes one as ``SPEC``, and is found because it is here.

The lists of their splits, and what is known about them, are in ``data/splits``.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data.dataset import Dataset, DatasetSpec
from polyp_lightning.data.masks import ANY_COLOUR, parse_colours
from polyp_lightning.data.mixing import mix_datasets
from polyp_lightning.data.sources import FileSource

_SPECS: list[DatasetSpec] = [import_module(f"{__name__}.{module.name}").SPEC for module in iter_modules(__path__)]

DATASETS = {spec.name: spec for spec in _SPECS}
"""Name → data set."""

MIX = "mix"
"""A name for the data sets that the project's own networks are trained on."""

_MIXED = ("kvasir", "clinicdb", "polypgen", "cpchild")


def check_choice(name: str, split: str | None) -> None:
    """Refuses data sets or splits that don't exist or don't go together; names what is allowed."""
    _choices(name, split)


def load_dataset(
    name: str, root: Path, split: str | None, phantom_frames: int, mask_colours: str = ANY_COLOUR
) -> Dataset:
    """Finds a data set's images and divides them by one of its splits, or its default; reads names only, no pixels.

    ``name`` may be several with commas between, then ``split`` too; ``root`` is the folder of data sets, for ``folder``
    the folder itself; ``mask_colours`` says what counts as polyp, see `parse_colours`.
    """
    datasets = [DATASETS[one].load(root, part, phantom_frames) for one, part in _choices(name, split)]
    dataset = datasets[0] if len(datasets) == 1 else mix_datasets(name, datasets)
    colours = parse_colours(mask_colours)
    for source in dataset.sources.values():
        if isinstance(source, FileSource):
            source.mask_colours = colours
        elif colours:
            msg = f"--data.mask_colours={mask_colours} has no use for {source.key}: its masks are drawn. Leave it out."
            raise ConfigError(msg)
    return dataset


def _choices(name: str, split: str | None) -> list[tuple[str, str | None]]:
    """Takes names and splits apart."""
    names = list(_MIXED) if name == MIX else name.split(",")
    for one in names:
        if one not in DATASETS:
            msg = f"--data.name={one} is no data set; allowed: {', '.join((*DATASETS, MIX))}."
            raise ConfigError(msg)
    alone = [one for one in names if len(names) > 1 and (not DATASETS[one].mixes or names.count(one) > 1)]
    if alone:
        mixing = ", ".join(spec.name for spec in _SPECS if spec.mixes)
        msg = f"--data.name={name} can't hold {alone[0]} so. Several data sets are each named once, of {mixing}."
        raise ConfigError(msg)
    splits: list[str | None] = [None] * len(names) if split is None else [*split.split(",")]
    if len(splits) != len(names):
        msg = f"--data.split={split} must be {len(names)} splits, one for each of {', '.join(names)}."
        raise ConfigError(msg)
    for one, part in zip(names, splits, strict=True):
        allowed = DATASETS[one].splits
        if part is not None and part not in allowed:
            msg = f"--data.split={part} is no split of {one}; allowed: {', '.join(allowed)}."
            raise ConfigError(msg)
    return list(zip(names, splits, strict=True))


def dataset_of(facts: Mapping[str, Any], root: Path) -> Dataset:
    """Finds the data set that a checkpoint was trained on, as its ``facts`` say, divided as it was then."""
    if "data" not in facts:
        msg = "the checkpoint does not say what it was trained on, so its training images can't be found"
        raise ConfigError(msg)
    frames = sum(int(facts.get(part, 0)) for part in ("train", "val", "test"))
    colours = str(facts.get("mask_colours", ANY_COLOUR))
    return load_dataset(str(facts["data"]), root, str(facts["split"]), frames, colours)
