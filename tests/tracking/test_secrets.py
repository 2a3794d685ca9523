"""What a run leaves behind may be shown to strangers: it holds neither a key nor the user's name."""

from pathlib import Path

import pytest
import yaml
from wandb_file import finished_records, records

from polyp_lightning.cli import main
from polyp_lightning.common.files import hide_home
from polyp_lightning.networks.build import build_net

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "jane.doe"
    folder.mkdir()
    for name, value in {"HOME": str(folder), "WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    return folder


def stored(path: Path) -> bytes:
    """What an offline run uploads: not where on this machine a table waits for it, which W&B keeps in the same file."""
    finished_records(path, patience=20)
    content = b""
    for record in records(path):
        for requested in (record.artifact, record.request.log_artifact.artifact):
            for entry in requested.manifest.contents:
                entry.ClearField("local_path")
        content += record.SerializeToString()
    return content


def test_fit__leaves_neither_key_nor_home_folder(home: Path) -> None:
    import torch

    weights = home / "encoder.pth"
    torch.save(build_net("Unet", "resnet18", None).get_submodule("encoder").state_dict(), weights)
    run = home / "runs" / "first"
    data = [
        "--data.phantom_frames",
        "14",
        "--data.image_size",
        "32",
        "--data.num_workers",
        "0",
        "--data.batch_size",
        "5",
    ]
    folders = ["--data.root", str(home), "--data.cache_dir", str(home / "cache"), "--masks.output", "~/masks"]
    cuts = ["--pruning.start", "1", "--pruning.end", "1", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    more = ["--model.encoder_weights", str(weights), "--trainer.default_root_dir", str(run)]
    assert main(["fit", *data, *folders, *cuts, *more]) == 0
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".ckpt", ".yaml", ".wandb", ".log", ".csv"}
    for path in files:
        content = stored(path) if path.suffix == ".wandb" else path.read_bytes()
        for secret in (KEY, "jane.doe"):
            assert secret.encode() not in content, f"{path} holds {secret}"
    links = [str(path.readlink()) for path in run.rglob("*") if path.is_symlink()]
    assert not [target for target in links if "jane.doe" in target]

    # What is left is enough to go on with the run.
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert Path(config["data"]["cache_dir"]).expanduser() == home / "cache"
    assert config["data"]["root"] == "~/"
    last = str(run / "checkpoints" / "last.ckpt")
    assert main(["fit", "--ckpt_path", last, "--trainer.logger", "false"]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("root: HOME/data\n", "root: ~/data\n"),
        ("root: HOME\n", "root: ~/\n"),
        ("root: 'HOME'\n", "root: '~/'\n"),
        ("root: HOMEs/data\n", "root: HOMEs/data\n"),
        ("root: /data\n", "root: /data\n"),
    ],
)
def test_without_home__replaces_whole_folders_only(home: Path, text: str, expected: str) -> None:
    found = hide_home(text.replace("HOME", str(home)))
    assert found == expected.replace("HOME", str(home))


def test_without_home__of_the_root_folder_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert hide_home("root: /data") == "root: /data"
