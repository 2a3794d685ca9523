import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from fake_data import write

from polyp_lightning.common.errors import DataError
from polyp_lightning.data import cache, sources
from polyp_lightning.data.cache import cache_key, is_whole, open_store, resize, resize_mask
from polyp_lightning.data.reading import read_image, read_mask
from polyp_lightning.data.sets.folder import find_folder
from polyp_lightning.data.sets.phantom import PhantomSource
from polyp_lightning.data.sources import FileSource


@pytest.fixture
def source(folder: Path) -> FileSource:
    return FileSource("folder", find_folder(folder))


def _forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(image: Path, mask: Path | None) -> None:
        raise AssertionError(f"decoded {image}")

    monkeypatch.setattr(sources, "read_pair", decode)


def test_open_store__holds_what_the_files_hold(source: FileSource, tmp_path: Path) -> None:
    store = open_store(source, 32, tmp_path / "cache")
    for index, pair in enumerate(source.pairs):
        image, mask = read_image(pair.image), read_mask(pair.mask or pair.image)
        assert np.array_equal(store.image(index), resize(image, 32))
        assert np.array_equal(store.mask(index), resize_mask(mask, 32))
        assert np.array_equal(store.original_mask(index), mask)
        assert store.sizes[index] == mask.shape
    assert store.mask(1).max() == store.original_mask(1).max() == 0, "frame 1 shows no polyp"
    assert len(set(store.sizes)) > 3, "the fixture must hold odd sizes"


def test_resize_mask__counts_areas() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:5, :4] = 1  # halved: 4 of 4, 4 of 4, then 2 of 4 pixels, which is not more than half
    expected = np.zeros((4, 4), np.uint8)
    for row in range(4):
        for column in range(4):
            expected[row, column] = mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean() > 0.5
    expected[2, :2] = 1  # exactly half rounds up to 128 in OpenCV
    assert np.array_equal(resize_mask(mask, 4), expected)


def test_open_store__second_start_decodes_nothing(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store(source, 32, tmp_path / "cache")
    expected = first.image(3).copy()
    _forbid_reading(monkeypatch)
    again = open_store(source, 32, tmp_path / "cache")
    assert again.folder == first.folder
    assert np.array_equal(again.image(3), expected)


def test_open_store__leaves_nothing_beside_the_cache(source: FileSource, tmp_path: Path) -> None:
    store = open_store(source, 32, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [store.folder]


@pytest.mark.parametrize("file", ["images.npy", "masks.npy", "originals.npy", "index.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "flipped"])
def test_open_store__damaged_cache_is_built_again(source: FileSource, tmp_path: Path, file: str, damage: str) -> None:
    store = open_store(source, 32, tmp_path / "cache")
    expected = np.stack([store.image(index) for index in range(12)])
    path = store.folder / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x41
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    assert not is_whole(store.folder)
    again = open_store(source, 32, tmp_path / "cache")
    assert is_whole(again.folder)
    assert np.array_equal(np.stack([again.image(index) for index in range(12)]), expected)
    assert list((tmp_path / "cache").iterdir()) == [again.folder]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_cache_key__changes_with_any_byte(folder: Path, kind: str) -> None:
    before = cache_key(FileSource("folder", find_folder(folder)), 32)
    path = sorted((folder / kind).iterdir())[5]
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the date shall not be what tells them apart
    assert cache_key(FileSource("folder", find_folder(folder)), 32) != before


def test_cache_key__changes_with_size_name_seed_and_number(folder: Path) -> None:
    pairs = find_folder(folder)
    keys = [
        cache_key(FileSource("folder", pairs), 32),
        cache_key(FileSource("folder", pairs), 64),
        cache_key(FileSource("folder", pairs[1:]), 32),
        *(cache_key(PhantomSource(count, seed), 32) for count, seed in ((7, 0), (8, 0), (7, 1))),
    ]
    assert len(set(keys)) == len(keys)


def test_cache_key__changes_with_the_rules_of_reading(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key(source, 32)
    source.mask_colours = ((255, 0, 0),)
    red = cache_key(source, 32)
    monkeypatch.setattr(sources, "RULES", sources.RULES + 1)
    assert len({before, red, cache_key(source, 32)}) == 3


def _open(source: FileSource, folder: Path, barrier: "multiprocessing.synchronize.Barrier", out: Path) -> None:
    slow = FileSource.read

    def read(self: FileSource, index: int) -> object:
        if index == 0:
            barrier.wait(20)  # both are in the middle of building
        return slow(self, index)

    FileSource.read = read  # type: ignore[method-assign,assignment]
    store = open_store(source, 32, folder)
    np.save(out, np.stack([store.image(index) for index in range(12)]))


def test_open_store__two_processes_at_once(source: FileSource, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    outs = [tmp_path / f"{number}.npy" for number in range(2)]
    processes = [context.Process(target=_open, args=(source, tmp_path / "cache", barrier, out)) for out in outs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert np.array_equal(np.load(outs[0]), np.load(outs[1]))
    (built,) = (tmp_path / "cache").iterdir()
    assert is_whole(built)


def test_open_store__reader_keeps_its_frames_while_another_rebuilds(source: FileSource, tmp_path: Path) -> None:
    store = open_store(source, 32, tmp_path / "cache")
    before = store.image(0)
    expected = before.copy()
    (store.folder / "index.json").unlink()
    open_store(source, 32, tmp_path / "cache")
    assert np.array_equal(before, expected)


def test_open_store__unreadable_file_is_named_and_nothing_is_left(
    folder: Path, tmp_path: Path, source: FileSource
) -> None:
    (folder / "images/f07.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"cannot read .*f07\.jpg"):
        open_store(source, 32, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_open_store__mask_of_another_size_names_both(folder: Path, tmp_path: Path, source: FileSource) -> None:
    write(folder / "masks/f03.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match=r"f03\.jpg is 34×23 pixels .*mask .*f03\.png is 6×5"):
        open_store(source, 32, tmp_path / "cache")


def test_open_store__folder_that_cannot_be_written(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the cache in .*file.*--data\.cache_dir"):
        open_store(source, 32, tmp_path / "file")


def test_image_store__pickles_without_its_pixels(source: FileSource, tmp_path: Path) -> None:
    store = open_store(source, 128, tmp_path / "cache")
    expected = store.image(2).copy()
    sent = pickle.dumps(store)
    assert len(sent) < 10_000
    assert np.array_equal(pickle.loads(sent).image(2), expected)  # noqa: S301


def test_default_cache_dir__is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default_cache_dir() == Path("/somewhere/polyp_lightning")


def test_file_digest__unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.jpg"):
        sources.file_digest(tmp_path / "gone.jpg")


def test_forget_unused__deletes_old_caches_and_half_built_ones_and_nothing_else(
    source: FileSource, tmp_path: Path
) -> None:
    folder, now = tmp_path / "caches", time.time()
    used = cache.open_store(source, 16, folder).folder
    (folder / ".folder-ab12_x9z").mkdir()
    for name in ("notes-1", "kvasir-64-v1-mine", "folder-16-v1-0123"):
        (folder / name).mkdir()
    (folder / "outside").mkdir()
    (folder / ("a-1-v1-" + "0" * 16)).symlink_to(folder / "outside")
    others = {path.name for path in folder.iterdir()} - {used.name, ".folder-ab12_x9z"}
    assert cache.forget_unused(folder, now + 89 * 86400) == []
    os.utime(used / "index.json", (now, now - 89 * 86400))
    cache.open_store(source, 16, folder)  # opening counts as use
    assert cache.forget_unused(folder, now + 89 * 86400) == []
    assert cache.forget_unused(folder, now + 91 * 86400) == sorted([".folder-ab12_x9z", used.name])
    assert {path.name for path in folder.iterdir()} == others
    assert cache.forget_unused(tmp_path / "nowhere") == []
