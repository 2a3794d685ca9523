from pathlib import Path

import pytest

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.sets import clinicdb, kvasir
from polyp_lightning.data.sets.folder import find_folder
from polyp_lightning.data.sources import find_pairs


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_find_kvasir__finds_all_pairs(kvasir_root: Path) -> None:
    pairs = kvasir.IMAGES.find(kvasir_root)
    assert len(pairs) == 1000
    assert all(pair.mask is not None and pair.image.stem == pair.mask.stem == pair.name for pair in pairs)
    assert {pair.image.parent.name for pair in pairs} == {"images"}


def test_find_clinicdb__finds_every_layout(clinicdb_root: Path) -> None:
    pairs = clinicdb.IMAGES.find(clinicdb_root)
    assert {int(pair.name) for pair in pairs} == set(range(1, 613))
    assert all(pair.mask is not None and pair.mask.is_file() for pair in pairs)


def test_find_folder__pairs_across_suffixes_and_passes_over_other_files(folder: Path) -> None:
    _touch(folder / "images/Thumbs.db", folder / "images/.hidden.jpg", folder / "masks/notes.txt")
    pairs = find_folder(folder)
    assert len(pairs) == 12
    assert (pairs[0].image.suffix, pairs[0].mask and pairs[0].mask.suffix) == (".jpg", ".png")


def test_find_folder__without_masks(tmp_path: Path) -> None:
    _touch(tmp_path / "images/a.JPG")
    assert [(pair.name, pair.mask) for pair in find_folder(tmp_path)] == [("a", None)]


def test_find_kvasir__missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Kvasir-SEG/images.*make data.*--data\.root"):
        kvasir.IMAGES.find(tmp_path)


def test_find_clinicdb__missing_folder_names_every_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"PNG/Original.*CVC-ClinicDB/Original.*CVC-ClinicDB/images.*grand-challenge"):
        clinicdb.IMAGES.find(tmp_path)


def test_find_kvasir__one_folder_of_two(tmp_path: Path) -> None:
    _touch(tmp_path / "Kvasir-SEG/images/a.jpg")
    with pytest.raises(DataError, match=r"no folder .*masks, only its partner"):
        kvasir.IMAGES.find(tmp_path)


def test_find_folder__without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*images.*--data\.root names"):
        find_folder(tmp_path)


def test_find_pairs__empty(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"holds no images.*\.png"):
        find_pairs(tmp_path / "images", None)


def test_find_pairs__image_without_mask(tmp_path: Path) -> None:
    _touch(*(tmp_path / f"images/i{n}.jpg" for n in range(9)), tmp_path / "masks/i8.png")
    with pytest.raises(DataError, match=r"i0\.jpg, i1\.jpg, .*\(5 of 8\).*add the missing files"):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_find_pairs__mask_without_image(tmp_path: Path) -> None:
    _touch(tmp_path / "images/a.jpg", tmp_path / "masks/a.png", tmp_path / "masks/b.png")
    with pytest.raises(DataError, match=r"no file in .*images is called like b\.png"):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_find_pairs__two_files_of_one_name(tmp_path: Path) -> None:
    _touch(tmp_path / "images/a.jpg", tmp_path / "images/a.png")
    with pytest.raises(DataError, match=r"both a\.jpg and a\.png"):
        find_pairs(tmp_path / "images", None)
