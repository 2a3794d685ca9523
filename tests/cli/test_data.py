"""Fetching and verifying, by their verbs; no test here touches the network."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_data import write_pairs

from polyp_lightning.cli import main
from polyp_lightning.data import fetching
from polyp_lightning.data.fetching import compare, read_hashes
from polyp_lightning.data.sets import clinicdb, kvasir


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip in Kvasir-SEG's layout whose three pairs the package takes for the official ones."""
    home = tmp_path / "made/Kvasir-SEG"
    write_pairs(home / "images", home / "masks", ["a", "b", "c"], ".jpg")
    (home / "kavsir_bboxes.json").write_text("{}")
    hashes = {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in home.rglob("*.jpg")
    }
    monkeypatch.setattr(fetching, "read_hashes", lambda file: hashes)
    return Path(shutil.make_archive(str(tmp_path / "kvasir-seg"), "zip", tmp_path / "made"))


def _sends(monkeypatch: pytest.MonkeyPatch, archive: Path) -> list[str]:
    """Lets pooch copy a file instead of downloading; returns the addresses asked for."""
    asked: list[str] = []

    def retrieve(url: str, known_hash: str | None, fname: str, path: Path, **_: Any) -> str:
        asked.append(url)
        return str(shutil.copy(archive, path / fname))

    monkeypatch.setattr("pooch.retrieve", retrieve)
    return asked


def test_fetch__puts_the_checked_folder_in_place(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = _sends(monkeypatch, official)
    root = tmp_path / "new/datasets"
    assert main(["data", "fetch", "kvasir", "--root", str(root)]) == 0
    assert [path.name for path in root.iterdir()] == ["Kvasir-SEG"]
    assert sorted(path.name for path in (root / "Kvasir-SEG/masks").iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]
    assert "every file checked" in capsys.readouterr().out
    assert asked == [kvasir.ARCHIVE.url]
    assert main(["data", "verify", "kvasir", "--root", str(root)]) == 0
    assert main(["data", "fetch", "kvasir", "--root", str(root)]) == 0
    assert len(asked) == 1, "what is there already is not fetched again"


def test_fetch__other_bytes_are_not_kept(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made/Kvasir-SEG/images/b.jpg").write_bytes(b"other")
    (tmp_path / "made/Kvasir-SEG/masks/c.jpg").unlink()
    _sends(monkeypatch, Path(shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "made")))
    assert main(["data", "fetch", "kvasir", "--root", str(tmp_path / "root")]) == 2
    told = capsys.readouterr().err
    assert "1 differ: images/b.jpg" in told
    assert "1 are missing: masks/c.jpg" in told
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_fetch__no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "page.zip").write_bytes(content)
    _sends(monkeypatch, tmp_path / "page.zip")
    assert main(["data", "fetch", "kvasir", "--root", str(tmp_path / "root")]) == 2
    assert "no intact archive" in capsys.readouterr().err
    assert list((tmp_path / "root").iterdir()) == []


def test_fetch__archive_without_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/readme.txt").write_text("")
    _sends(monkeypatch, Path(shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "made")))
    assert main(["data", "fetch", "kvasir", "--root", str(tmp_path / "root")]) == 2
    assert "holds no folders images/ and masks/" in capsys.readouterr().err


def test_fetch__without_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def retrieve(*_: Any, **__: Any) -> str:
        raise ConnectionError("name not resolved")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert main(["data", "fetch", "kvasir", "--root", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "name not resolved" in told
    assert "download that file on another machine" in told
    assert list(tmp_path.iterdir()) == []


def test_fetch__leaves_another_folder_alone(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = _sends(monkeypatch, official)
    (tmp_path / "Kvasir-SEG/images").mkdir(parents=True)
    assert main(["data", "fetch", "kvasir", "--root", str(tmp_path)]) == 2
    assert "Move it away, then fetch again" in capsys.readouterr().err
    assert asked == []


def test_fetch__clinicdb_needs_a_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "clinicdb", "--root", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert clinicdb.PAGE in told
    assert "PNG/Original" in told


def test_compare__tells_each_fault(tmp_path: Path) -> None:
    for name in ("images/same", "images/other", "masks/besides"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    digest = hashlib.sha256(b"images/same").hexdigest()
    found = compare(tmp_path, {"images/same": digest, "images/other": digest, "masks/gone": digest})
    assert (found.same, found.differing, found.missing) == (1, ["images/other"], ["masks/gone"])
    assert found.extra == ["masks/besides"]
    assert not found.official
    assert str(found).splitlines() == [
        "1 files are the official ones",
        "1 differ: images/other",
        "1 are missing: masks/gone",
        "1 are not part of it: masks/besides",
    ]


def test_verify__missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "kvasir", "--root", str(tmp_path)]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_verify__names_a_few_of_many(kvasir_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "kvasir", "--root", str(kvasir_root)]) == 2
    assert "2000 differ: images/" in (told := capsys.readouterr().err)
    assert told.startswith("error: ")
    assert "(5 of 2000)" in told


def test_kvasir_hashes__cover_both_folders() -> None:
    hashes = read_hashes(kvasir.ARCHIVE.hashes)
    assert (
        sum(name.startswith("images/") for name in hashes) == sum(name.startswith("masks/") for name in hashes) == 1000
    )
    assert all(len(digest) == 64 for digest in hashes.values())


@pytest.mark.data
def test_verify__the_real_data_are_official(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "kvasir", "--root", str(real_data)]) == 0
    assert "all 2000 files are the official ones" in capsys.readouterr().out
