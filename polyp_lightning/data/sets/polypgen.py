"""PolypGen: frames of several hospitals, some without a polyp (Ali et al., 2023, doi 10.1038/s41597-023-01981-y).

Of centre 4 only the frames that show no polyp are taken, to test on: they are never trained on.
"""

from functools import partial
from pathlib import Path

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.dataset import PARTS, Dataset, DatasetSpec, ImageId, PublishedImages
from polyp_lightning.data.sources import FileSource, ImagePair, Source, find_pairs
from polyp_lightning.data.splitting import check_parts, shipped_list

CENTRES = ("C1", "C2", "C3", "C5")
"""The centres that train, validate and test."""

_CLEAN_CENTRE = "C4"
_DEFAULT = "train-c1-c2-c3-c5"
_WITHOUT = {f"without-{centre.lower()}": centre for centre in CENTRES}
_OFFICIAL = "PolypGen2021_MultiCenterData_v3"
_REMEDY = (
    f"Ask for it at synapse.org (syn26376615) and unpack it there, so that {_OFFICIAL}/ holds data_C1/, data_C2/ and "
    "so on; or make PolypGen/images and PolypGen/masks of it, with the centre ahead of each name, as in C1-100H0050. "
    "--data_root names the folder that holds it."
)
_FLAT = PublishedImages("polypgen", (("PolypGen/images", "PolypGen/masks"),), _REMEDY)


def find(root: Path) -> list[ImagePair]:
    """Finds the pairs, whichever way they are laid out; names begin with the centre, as in ``C1-100H0050``.

    Raises:
        DataError: the data set is not there, or an image has no partner.
    """
    for home in (root / _OFFICIAL, root / _OFFICIAL / _OFFICIAL, root / "PolypGen"):
        if (home / "data_C1").is_dir():
            centres = [(home / f"data_{centre}", centre) for centre in sorted((*CENTRES, _CLEAN_CENTRE))]
            return [pair for folder, centre in centres for pair in _find_centre(folder, centre)]
    if (root / "PolypGen").is_dir():
        return _FLAT.find(root)
    msg = f"the data set is not there: looked for {root / _OFFICIAL / 'data_C1'} and {root / 'PolypGen'}. {_REMEDY}"
    raise DataError(msg)


def _find_centre(folder: Path, centre: str) -> list[ImagePair]:
    images, masks = folder / f"images_{centre}", folder / f"masks_{centre}"
    for one in (images, masks):
        if not one.is_dir():
            msg = f"there is no folder {one}. {_REMEDY}"
            raise DataError(msg)
    return find_pairs(images, masks, partial(_name, centre))


def _name(centre: str, stem: str) -> str:
    """Names an image after its file's name or its mask's.

    >>> _name("C1", "100H0050"), _name("C1", "100H0050_mask"), _name("C3", "C3_EndoCV2021_00489_")
    ('C1-100H0050', 'C1-100H0050', 'C3-C3_EndoCV2021_00489')
    """
    return f"{centre}-{stem.removesuffix('_mask').rstrip('_')}"


def load(root: Path, split: str | None, _frames: int) -> Dataset:
    """Finds the images and divides them by the shipped lists, or leaves one centre out to test on."""
    split = split or _DEFAULT
    pairs = find(root)
    parts = {part: shipped_list(f"polypgen-c1-c2-c3-c5-{part}") for part in PARTS}
    clean = shipped_list("polypgen-c4-clean")
    check_parts({**parts, "C4": clean}, [pair.name for pair in pairs], str(root), _REMEDY)
    test_name = "polypgen"
    protocol = "PolypGen's centres 1, 2, 3 and 5: a tenth of each validates and one tests, by patient or running number"
    if split != _DEFAULT:
        left_out = _WITHOUT[split]
        parts = leave_out(left_out, parts)
        test_name = f"polypgen-{left_out.lower()}"
        protocol = f"PolypGen without centre {left_out[1:]}, which tests; a tenth of each other centre validates"
    ids: dict[str, list[ImageId]] = {part: [("polypgen", name) for name in names] for part, names in parts.items()}
    tests = {
        f"{test_name}-{len(ids['test'])}": ids["test"],
        f"polypgen-c4-clean-{len(clean)}": [("polypgen", name) for name in clean],
    }
    used = {name for names in (*parts.values(), clean) for name in names}
    sources: dict[str, Source] = {"polypgen": FileSource("polypgen", [pair for pair in pairs if pair.name in used])}
    protocol = f"{protocol}; {len(clean)} frames without a polyp of centre 4 test"
    every_test = [image for images in tests.values() for image in images]
    return Dataset("polypgen", split, protocol, sources, ids["train"], ids["val"], tests, every_test)


def leave_out(centre: str, parts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Lets one centre test, and the frames of the others that tested train.

    >>> leave_out("C2", {"train": ["C1-a", "C2-b"], "val": ["C1-c", "C2-d"], "test": ["C1-e", "C2-f"]})
    {'train': ['C1-a', 'C1-e'], 'val': ['C1-c'], 'test': ['C2-b', 'C2-d', 'C2-f']}
    """
    here = f"{centre}-"
    return {
        "train": sorted(name for part in ("train", "test") for name in parts[part] if not name.startswith(here)),
        "val": [name for name in parts["val"] if not name.startswith(here)],
        "test": sorted(name for names in parts.values() for name in names if name.startswith(here)),
    }


SPEC = DatasetSpec("polypgen", (_DEFAULT, *_WITHOUT), load)
