from pathlib import Path

import pytest

from polyp_lightning.checkpoints import named
from polyp_lightning.cli.named_nets import use_files
from polyp_lightning.common.errors import ConfigError


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "nets"
    folder.mkdir()
    for name in ("realtime.ckpt", "dense.ckpt", "README.md"):
        (folder / name).touch()
    monkeypatch.setattr(named, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_find_net__knows_what_is_there(nets: Path) -> None:
    assert named.list_nets() == ["dense", "realtime"]
    assert named.is_named(named.find_net("dense", "--ckpt_path"))
    assert not named.is_named(Path("dense.ckpt"))


def test_find_net__a_wrong_name_is_answered_with_the_nearest(nets: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model realtme is neither a file .* Did you mean realtime\?"):
        named.find_net("realtme", "--model")
    for path in nets.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="This build holds none; `make ship` trains them"):
        named.find_net("realtime", "--model")


@pytest.mark.parametrize("flag", ["--ckpt_path", "--model", "--model.init_from", "--model.distill_from"])
def test_use_files__puts_the_file_in_place_of_the_name(nets: Path, flag: str) -> None:
    path = str(nets / "dense.ckpt")
    assert use_files([flag, "dense", f"{flag}=dense", "--other", "dense"]) == [
        flag, path, f"{flag}={path}", "--other", "dense",
    ]  # fmt: skip


def test_use_files__leaves_words_and_files_alone(nets: Path) -> None:
    words = ["--ckpt_path", "last", "--ckpt_path=auto", "--model.init_from", "null"]
    given = [*words, "--model", "a/dense", "--model=a.onnx"]
    assert use_files(given) == given
    Path("dense").touch()
    assert use_files(["--model", "dense"]) == ["--model", "dense"]
