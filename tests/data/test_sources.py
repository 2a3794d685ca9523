from pathlib import Path

import pytest

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.sets import clinicdb, kvasir
from polyp_lightning.data.sets.folder import find_folder, load
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


def test_find_folder__pairs_across_suffixes_and_names_what_it_passes_over(folder: Path) -> None:
    _touch(folder / "images/Thumbs.db", folder / "images/.hidden.jpg", folder / "masks/notes.txt")
    with pytest.warns(UserWarning, match="passed over") as warned:
        pairs = find_folder(folder)
    assert [str(one.message).partition(". ")[0] for one in warned] == [
        f"{folder}/images: passed over .hidden.jpg, Thumbs.db",
        f"{folder}/masks: passed over notes.txt",
    ]
    assert len(pairs) == 12
    assert (pairs[0].image.suffix, pairs[0].mask and pairs[0].mask.suffix) == (".jpg", ".png")


def test_find_folder__without_masks(tmp_path: Path) -> None:
    _touch(tmp_path / "images/a.JPG")
    assert [(pair.name, pair.mask) for pair in find_folder(tmp_path)] == [("a", None)]


def test_find_kvasir__missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Kvasir-SEG/images.*make data.*--data_root"):
        kvasir.IMAGES.find(tmp_path)


def test_find_clinicdb__missing_folder_names_every_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"PNG/Original.*CVC-ClinicDB/Original.*CVC-ClinicDB/images.*grand-challenge"):
        clinicdb.IMAGES.find(tmp_path)


def test_find_kvasir__one_folder_of_two(tmp_path: Path) -> None:
    _touch(tmp_path / "Kvasir-SEG/images/a.jpg")
    with pytest.raises(DataError, match=r"no folder .*masks, only its partner"):
        kvasir.IMAGES.find(tmp_path)


def test_find_folder__without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*images.*--data_root names"):
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


def test_find_pairs__one_name_in_two_forms_is_one(tmp_path: Path) -> None:
    """As where images come from Linux and masks from macOS."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    _touch(tmp_path / f"images/{composed}.jpg", tmp_path / f"masks/{decomposed}.png")
    (pair,) = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert (pair.name, pair.mask) == (composed, tmp_path / f"masks/{decomposed}.png")
    _touch(tmp_path / f"images/{decomposed}.png")
    with pytest.raises(DataError, match="holds both"):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_find_pairs__natural_order(tmp_path: Path) -> None:
    _touch(*(tmp_path / f"images/{number}.png" for number in range(1, 613)))
    assert [pair.name for pair in find_pairs(tmp_path / "images", None)] == [str(n) for n in range(1, 613)]


def test_find_folder__follows_links_to_files_and_folders(tmp_path: Path, folder: Path) -> None:
    linked, home = tmp_path / "linked", tmp_path / "elsewhere"
    (folder / "images").rename(home)
    (linked / "images").mkdir(parents=True)
    for path in home.iterdir():
        (linked / "images" / path.name).symlink_to(path)
    (linked / "masks").symlink_to(folder / "masks")
    assert [pair.name for pair in find_folder(linked)] == [f"f{number:02d}" for number in range(12)]
    (linked / "train.txt").write_text("f01\nf02\n")
    assert load(linked, None, 0).train == [("folder", "f01"), ("folder", "f02")]


def test_load__lists_may_name_another_suffix_or_form(tmp_path: Path) -> None:
    names = ["f0", "f1.x", "caf\u00e9", "g.jpg"]
    _touch(*(tmp_path / kind / f"{name}.png" for kind in ("images", "masks") for name in names))
    (tmp_path / "train.txt").write_text("f0.jpg\nf1.x.tif\ncafe\u0301.PNG\ng.jpg\n", encoding="utf-8")
    assert [name for _, name in load(tmp_path, None, 0).train] == names


def test_load__list_that_names_an_image_by_two_suffixes(tmp_path: Path) -> None:
    _touch(tmp_path / "images/f0.png", tmp_path / "masks/f0.png")
    (tmp_path / "train.txt").write_text("f0.jpg\nf0.png\n")
    with pytest.raises(DataError, match="more than once: f0"):
        load(tmp_path, None, 0)


def test_load__list_that_names_what_is_not_there(tmp_path: Path) -> None:
    _touch(tmp_path / "images/f0.png", tmp_path / "masks/f0.png")
    (tmp_path / "train.txt").write_text("f1.jpg\nf0.txt\n")
    with pytest.raises(DataError, match=r"does not have: f1, f0\.txt"):
        load(tmp_path, None, 0)
