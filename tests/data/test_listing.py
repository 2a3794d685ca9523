from pathlib import Path

import pytest

from polyp_lightning.data.listing import list_images


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_list_images__natural_order(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "10.png", "a1b2.tif", "a1b10.jpg", "a02.bmp", "a2.jpeg", "a10.JPG", "b.TIFF"]
    assert [path.name for path in list_images(_touch(tmp_path, *reversed(names)))] == names


@pytest.mark.parametrize("name", ["._1.png", ".1.JPG", "1.webp", "Thumbs.db", "notes.txt", "1.png.part"])
def test_list_images__names_what_it_passes_over(tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match=rf"passed over {name}\. Images are files directly in it that end") as warned:
        found = list_images(_touch(tmp_path, "1.png", name))
    assert [path.name for path in found] == ["1.png"]
    assert len(warned) == 1


def test_list_images__names_folders_and_links_to_nothing(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png", "patient 7/2.png", "3.png/4.png")
    (tmp_path / "5.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"passed over 3\.png/, 5\.png, patient 7/\."):
        found = list_images(tmp_path)
    assert [path.name for path in found] == ["1.png"]


def test_list_images__says_nothing_of_what_systems_hide(tmp_path: Path) -> None:
    assert [path.name for path in list_images(_touch(tmp_path, ".DS_Store", ".directory", "1.png"))] == ["1.png"]
