"""The data sets by name, each with its split: which frames train, validate and test.

The lists and what is known about them are in the package's folder ``data/splits``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyp_lightning.common.errors import ConfigError, DataError, listed
from polyp_lightning.data import layouts
from polyp_lightning.data.layouts import Frame
from polyp_lightning.data.sources import FileSource, PhantomSource, Source
from polyp_lightning.data.splitting import CARVE_SEED, carve_out, check_parts, read_list, shipped_list

DatasetName = Literal["phantom", "kvasir", "clinicdb", "pranet", "folder"]

PHANTOM_SEED = 0
"""Seed of the phantom's drawing. It is not the run's seed: runs with different seeds see the same frames."""

SPLITS: dict[str, tuple[str, ...]] = {
    "phantom": ("by-number",),
    "kvasir": ("880-120", "880-120-final"),
    "clinicdb": ("sequence", "pranet"),
    "pranet": ("900-550",),
    "folder": ("lists", "80-10-10"),
}
"""Data set → the splits it has. The first is the default; that of ``folder`` depends on whether it holds lists."""

PARTS = ("train", "val", "test")

FrameId = tuple[str, str]
"""A source's key and the frame's name."""


@dataclass(frozen=True)
class Dataset:
    """Frames and what they are for.

    Attributes:
        name: The data set's name.
        split: The split's name.
        protocol: The split in words, in one sentence.
        sources: Key → source.
        train: Frames to train on.
        val: Frames to choose by.
        tests: Name of the test set → its frames.
        predict: Frames to segment where nothing else is asked for.
    """

    name: str
    split: str
    protocol: str
    sources: dict[str, Source]
    train: list[FrameId]
    val: list[FrameId]
    tests: dict[str, list[FrameId]]
    predict: list[FrameId]


def check_choice(name: str, split: str | None) -> None:
    """Refuses a data set or a split that does not exist.

    Raises:
        ConfigError: Naming what is allowed.
    """
    if name not in SPLITS:
        msg = f"--data.name={name} is no data set; allowed: {', '.join(SPLITS)}."
        raise ConfigError(msg)
    if split is not None and split not in SPLITS[name]:
        msg = f"--data.split={split} is no split of {name}; allowed: {', '.join(SPLITS[name])}."
        raise ConfigError(msg)


def load_dataset(name: str, root: Path, split: str | None, phantom_frames: int) -> Dataset:
    """Finds a data set's frames and divides them; reads names only, no pixels.

    Args:
        name: One of the keys of `SPLITS`.
        root: The folder that holds Kvasir-SEG/ and CVC-ClinicDB/; for ``folder`` the folder itself.
        split: One of the splits of the data set; None for its default.
        phantom_frames: How many frames the phantom has.

    Raises:
        ConfigError: If the data set or the split is unknown.
        DataError: If files are missing, or the split does not fit them.
    """
    check_choice(name, split)
    if name == "phantom":
        return _phantom(phantom_frames)
    if name == "folder":
        return _folder(root, split)
    return _published(name, root, split or SPLITS[name][0])


def dataset_of(facts: Mapping[str, Any], root: Path) -> Dataset:
    """The data set that a checkpoint was trained on, divided as it was then.

    Args:
        facts: what the checkpoint says of its data.
        root: as for :func:`load_dataset`.

    Raises:
        ConfigError: The checkpoint does not say what it was trained on.
        DataError: The data are not there.
    """
    if "data" not in facts:
        msg = "the checkpoint does not say what it was trained on, so its training images can't be found"
        raise ConfigError(msg)
    frames = sum(int(facts.get(part, 0)) for part in ("train", "val", "test"))
    return load_dataset(str(facts["data"]), root, str(facts["split"]), frames)


def _phantom(frames: int) -> Dataset:
    if frames < 7:
        msg = f"--data.phantom_frames={frames} is too few: at least 7, of which 5 train, 1 validates and 1 tests."
        raise ConfigError(msg)
    source = PhantomSource(frames, PHANTOM_SEED)
    held_out = frames // 7
    names = [("phantom", name) for name in source.names]
    val, test = names[-2 * held_out : -held_out], names[-held_out:]
    protocol = (
        f"{frames} frames drawn with seed {PHANTOM_SEED}: the last seventh tests, the one before validates; "
        "says nothing about patients"
    )
    tests = {f"phantom-{held_out}": test}
    return Dataset("phantom", "by-number", protocol, {"phantom": source}, names[: -2 * held_out], val, tests, test)


_FINDERS: dict[str, tuple[Callable[[Path], list[Frame]], str]] = {
    "kvasir": (layouts.find_kvasir, layouts.KVASIR_REMEDY),
    "clinicdb": (layouts.find_clinicdb, layouts.CLINICDB_REMEDY),
}

# Data set and split → the lists of each source, and the protocol in words.
_PUBLISHED: dict[tuple[str, str], tuple[dict[str, str], str]] = {
    ("kvasir", "880-120"): (
        {"kvasir": "kvasir-880-120"},
        "Kvasir-SEG's published 880/120: the 120 test, 100 of the 880 validate (fixed, near-duplicates on one side)",
    ),
    ("kvasir", "880-120-final"): (
        {"kvasir": "kvasir-880-120-final"},
        "Kvasir-SEG's published 880/120: the 120 test; 860 of the 880 train, the other 20 are too few to choose by",
    ),
    ("clinicdb", "sequence"): (
        {"clinicdb": "clinicdb-sequence"},
        "CVC-ClinicDB by sequence: 19 sequences train, 3 validate, 7 test; none is on two sides",
    ),
    ("clinicdb", "pranet"): (
        {"clinicdb": "clinicdb-pranet"},
        "PraNet's random 550/62 of CVC-ClinicDB, 55 of the 550 validate; each test frame's sequence is in train too",
    ),
    ("pranet", "900-550"): (
        {"kvasir": "kvasir-pranet", "clinicdb": "clinicdb-pranet"},
        "PraNet's 900 Kvasir-SEG and 550 CVC-ClinicDB, a tenth of each validates, its two in-distribution tests; "
        "each ClinicDB test frame's sequence is in train too",
    ),
}


def _published(name: str, root: Path, split: str) -> Dataset:
    """A data set whose lists are shipped."""
    lists, protocol = _PUBLISHED[name, split]
    sources: dict[str, Source] = {}
    chosen: dict[str, list[FrameId]] = {part: [] for part in PARTS}
    tests: dict[str, list[FrameId]] = {}
    for key, stem in lists.items():
        find, remedy = _FINDERS[key]
        sources[key] = FileSource(key, find(root))
        parts = {part: shipped_list(f"{stem}-{part}") for part in PARTS}
        where = str(Path(sources[key].paths[0]).parent)
        check_parts(parts, sources[key].names, where, remedy)
        for part in PARTS:
            chosen[part] += [(key, frame) for frame in parts[part]]
        tests[f"{key}-{len(parts['test'])}"] = [(key, frame) for frame in parts["test"]]
    return Dataset(name, split, protocol, sources, chosen["train"], chosen["val"], tests, chosen["test"])


def _folder(root: Path, split: str | None) -> Dataset:
    """Any pair of folders, by the user's lists or by a carve-out."""
    frames = layouts.find_folder(root)
    source = FileSource("folder", frames)
    lists = [root / f"{part}.txt" for part in PARTS if (root / f"{part}.txt").is_file()]
    if split == "lists" and not lists:
        msg = (
            f"--data.split=lists, but {root} holds none of train.txt, val.txt and test.txt: "
            "write them, or leave the split out."
        )
        raise DataError(msg)
    if lists and split != "80-10-10":
        split, protocol = "lists", f"the lists {', '.join(path.name for path in lists)} in the folder"
        parts = {path.stem: _stems(read_list(path), frames) for path in lists}
        check_parts(parts, source.names, str(root / "images"), "Correct the list, or add the images.")
        _check_inside(parts, frames, root)
    elif source.has_masks:
        split = "80-10-10"
        protocol = (
            f"a random tenth tests, another validates (seed {CARVE_SEED}); frames of one patient may be on both sides"
        )
        parts = _tenths(source.names, root)
    else:
        split, protocol, parts = "80-10-10", "no masks: all images are for prediction", {}
    ids = {part: [("folder", name) for name in parts.get(part, [])] for part in PARTS}
    every = [("folder", name) for name in source.names]
    tests = {f"folder-{len(ids['test'])}": ids["test"]}
    return Dataset("folder", split, protocol, {"folder": source}, ids["train"], ids["val"], tests, ids["test"] or every)


def _check_inside(parts: Mapping[str, Sequence[str]], frames: Sequence[Frame], root: Path) -> None:
    """A list, perhaps a stranger's, must not reach files outside of the data set through links."""
    home = root.resolve()
    files = {frame.name: [path for path in (frame.image, frame.mask) if path is not None] for frame in frames}
    for part, names in parts.items():
        outside = [name for name in names if not all(path.resolve().is_relative_to(home) for path in files[name])]
        if outside:
            msg = (
                f"the {part} list of {root} names images or masks that are links to files outside of it: "
                f"{listed(outside)}. Put copies of the files there."
            )
            raise DataError(msg)


def _tenths(names: Sequence[str], root: Path) -> dict[str, list[str]]:
    """Divides names into eight, one and one tenth, at least one name each."""
    if len(names) < 3:
        msg = f"{root / 'images'} holds {len(names)} images, too few to train, validate and test on: at least 3."
        raise DataError(msg)
    tenth = max(1, round(len(names) / 10))
    rest, test = carve_out(names, tenth, CARVE_SEED)
    train, val = carve_out(rest, tenth, CARVE_SEED)
    return {"train": train, "val": val, "test": test}


def _stems(names: Sequence[str], frames: Sequence[Frame]) -> list[str]:
    """Names without suffix, of names that may have one."""
    stems = {frame.image.name: frame.name for frame in frames}
    return [stems.get(name, name) for name in names]
