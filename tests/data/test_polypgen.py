from pathlib import Path

import pytest
from fake_data import every_name, write_pairs

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.sets import DATASETS, load_dataset
from polyp_lightning.data.sets.polypgen import find
from polyp_lightning.data.splitting import shipped_list

LISTS = "polypgen-c1-c2-c3-c5"


def _every_name() -> list[str]:
    return [*every_name(LISTS), *shipped_list("polypgen-c4-clean")]


def _touch(folder: Path, names: list[str], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").touch()


def _official_name(name: str) -> str:
    """The official distribution ends one image's name in an underscore, and not its mask's."""
    stem = name.partition("-")[2]
    return f"{stem}_" if stem == "C3_EndoCV2021_00489" else stem


@pytest.fixture(params=["flat", "official", "unpacked twice"], scope="module")
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files' names, in each layout; reading names needs no pixels."""
    tmp_path = tmp_path_factory.mktemp("polypgen")
    if request.param == "flat":
        _touch(tmp_path / "PolypGen/images", _every_name(), ".jpg")
        _touch(tmp_path / "PolypGen/masks", _every_name(), ".png")
        return tmp_path
    home = tmp_path / "PolypGen2021_MultiCenterData_v3"
    home = home / home.name if request.param == "unpacked twice" else home
    for centre in ("C1", "C2", "C3", "C4", "C5"):
        names = [name for name in _every_name() if name.startswith(centre)]
        _touch(home / f"data_{centre}/images_{centre}", [_official_name(name) for name in names], ".jpg")
        _touch(home / f"data_{centre}/masks_{centre}", [f"{name.partition('-')[2]}_mask" for name in names], ".jpg")
    for folder, ending in (("images", ""), ("masks", "_mask")):  # frames of centre 4 that show polyps are left alone
        _touch(home / f"data_C4/{folder}_C4", [f"1_endocv2021_positive_1{ending}"], ".jpg")
    return tmp_path


def test_load__takes_the_lists_in_every_layout(root: Path) -> None:
    dataset = load_dataset("polypgen", root, None, 0)
    train, val, test = (
        [("polypgen", name) for name in shipped_list(f"{LISTS}-{part}")] for part in ("train", "val", "test")
    )
    assert (dataset.split, dataset.train, dataset.val) == ("train-c1-c2-c3-c5", train, val)
    clean = [("polypgen", name) for name in shipped_list("polypgen-c4-clean")]
    assert dataset.tests == {"polypgen-120": test, "polypgen-c4-clean-32": clean}
    assert set(dataset.sources["polypgen"].names) == set(_every_name())
    assert len(dataset.predict) == 152


@pytest.mark.parametrize("centre", ["c1", "c2", "c3", "c5"])
@pytest.mark.parametrize("root", ["flat"], indirect=True)
def test_load__leaves_a_centre_out(root: Path, centre: str) -> None:
    dataset = load_dataset("polypgen", root, f"without-{centre}", 0)
    test = next(images for name, images in dataset.tests.items() if name.startswith(f"polypgen-{centre}-"))
    here = f"{centre.upper()}-"
    assert {name for _, name in test} == {name for name in _every_name() if name.startswith(here)}
    used = [name for _, name in (*dataset.train, *dataset.val)]
    assert not [name for name in used if name.startswith((here, "C4-"))]
    rest = [name for name in every_name(LISTS) if not name.startswith(here)]
    assert sorted(used) == sorted(rest)
    assert {name for _, name in dataset.val} == {name for name in shipped_list(f"{LISTS}-val") if name in rest}


def test_splits__leave_every_centre_out_once() -> None:
    assert DATASETS["polypgen"].splits == ("train-c1-c2-c3-c5", "without-c1", "without-c2", "without-c3", "without-c5")


def test_find__says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for .*data_C1 and .*PolypGen\. Ask for it at synapse\.org"):
        find(tmp_path)
    home = tmp_path / "PolypGen2021_MultiCenterData_v3"
    write_pairs(home / "data_C1/images_C1", home / "data_C1/masks_C1", ["a"], ".jpg", "_mask.jpg")
    with pytest.raises(DataError, match=r"no folder .*data_C2.images_C2\. Ask"):
        find(tmp_path)
