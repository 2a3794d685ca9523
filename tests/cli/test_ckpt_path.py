"""How a run starts, from the command line's text; whole runs are in test_cli.py."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from polyp_lightning.checkpoints import record as checkpoint
from polyp_lightning.checkpoints.file import write
from polyp_lightning.cli.ckpt_path import complete_command, flatten, list_disagreements
from polyp_lightning.cli.trusted_config import read_trusted
from polyp_lightning.common.errors import ConfigError

RECORD: dict[str, Any] = {
    "schema": checkpoint.SCHEMA,
    "plan": {},
    "data": {"data": "phantom", "split": "by-number", "image_size": 64, "protocol": "drawn"},
}
MODEL = {"arch": "FPN", "encoder": "resnet18", "encoder_weights": None, "loss": "focal", "lr": 0.002, "image_size": 64}
FLAGS = [
    "--model.arch=FPN",
    "--model.encoder=resnet18",
    "--model.loss=focal",
    "--model.lr=0.002",
    "--data.name=phantom",
    "--data.split=by-number",
    "--data.image_size=64",
]


def stored(path: Path, **changes: Any) -> Path:
    write({"hyper_parameters": MODEL, checkpoint.KEY: RECORD, **changes}, path)
    return path


@pytest.fixture
def ckpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return stored(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt")


def test_complete_command__evaluation_takes_net_and_data_of_the_checkpoint(ckpt: Path) -> None:
    arguments = ["test", "--ckpt_path", str(ckpt), "--data.image_size", "96"]
    assert complete_command(arguments).arguments == ["test", *FLAGS, *arguments[1:]]
    assert complete_command(arguments).settings["data.image_size"] == "64"


def test_complete_command__other_data_do_not_inherit_the_split(ckpt: Path) -> None:
    found = complete_command(["predict", f"--ckpt_path={ckpt}", "--data.name=folder"]).arguments
    assert "--data.image_size=64" in found
    assert not [flag for flag in found if flag.startswith("--data.split")]


def test_complete_command__colours_that_count_belong_to_the_data(tmp_path: Path) -> None:
    own = RECORD | {"data": {"data": "folder", "mask_colours": "red,white"}}
    path = stored(tmp_path / "a.ckpt", **{checkpoint.KEY: own})
    assert "--data.mask_colours=red,white" in complete_command(["test", f"--ckpt_path={path}"]).arguments
    other = complete_command(["test", f"--ckpt_path={path}", "--data.name=kvasir"]).arguments
    assert not [flag for flag in other if flag.startswith("--data.mask_colours")]


def test_complete_command__init_from_takes_the_architecture_and_nothing_else(ckpt: Path) -> None:
    arguments = ["fit", "--model.init_from", str(ckpt)]
    assert complete_command(arguments).arguments == ["fit", *FLAGS[:2], *arguments[1:]]
    assert complete_command(arguments).settings == {}


def test_complete_command__resume_takes_the_runs_configuration(ckpt: Path) -> None:
    config = ckpt.parent.parent / "config.yaml"
    config.write_text(yaml.safe_dump({"model": {"lr": 0.1, "optimizer": {"class_path": "torch.optim.AdamW"}}}))
    found = complete_command(["fit", "--ckpt_path", str(ckpt), "--trainer.max_epochs", "9"])
    starts = ("encoder_weights", "init_from", "architecture_from")
    inherited = ["--config", str(config), *(f"--model.{name}=null" for name in starts)]
    assert found.arguments == ["fit", *inherited, "--ckpt_path", str(ckpt), "--trainer.max_epochs", "9"]
    assert found.settings == {"model.lr": 0.1, "model.optimizer.class_path": "torch.optim.AdamW"}
    given = ["fit", "--ckpt_path", str(ckpt), "--config", "mine.yaml"]
    assert complete_command(given).arguments == ["fit", *FLAGS, *given[1:]]


def test_complete_command__last_is_the_newest_run(ckpt: Path) -> None:
    newer = stored(Path("runs") / "b" / "checkpoints" / "last.ckpt")
    os.utime(ckpt, ns=(0, newer.stat().st_mtime_ns + 10**9))
    assert complete_command(["test", "--ckpt_path", "last"]).arguments[-2:] == [
        "--ckpt_path",
        str(Path("runs/a/checkpoints/last.ckpt")),
    ]
    os.utime(ckpt, ns=(0, newer.stat().st_mtime_ns - 10**9))
    assert complete_command(["test", "--ckpt_path", "last"]).arguments[-1] == str(newer)
    named = complete_command(["test", "--ckpt_path=last", "--trainer.default_root_dir", "runs/a"]).arguments
    assert named[-1] == str(Path("runs/a/checkpoints/last.ckpt"))


@pytest.mark.parametrize("more", [[], ["--trainer.default_root_dir", "nowhere"]])
def test_complete_command__no_last_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--ckpt_path last: there is no checkpoints/last\.ckpt in .*first epoch"):
        complete_command(["fit", "--ckpt_path", "last", *more])


def test_complete_command__auto_begins_and_then_goes_on(ckpt: Path) -> None:
    command = ["fit", "--ckpt_path", "auto", "--model.init_from", str(ckpt), "--trainer.default_root_dir"]
    new = complete_command([*command, "runs/new"])
    assert new.arguments == ["fit", *FLAGS[:2], *command[1:], "runs/new", "--ckpt_path=null"]
    again = complete_command([*command, "runs/a"]).arguments
    assert again[:-4] == ["fit", *FLAGS, *command[1:], "runs/a"]
    assert again[-4:-2] == ["--ckpt_path", "runs/a/checkpoints/last.ckpt"]
    assert again[-2:] == ["--model.init_from=null", "--model.architecture_from=null"]
    with pytest.raises(ConfigError, match=r"auto .*give its folder with --trainer\.default_root_dir"):
        complete_command(["fit", "--ckpt_path=auto"])


def test_complete_command__two_starts_at_once(ckpt: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        complete_command(["fit", "--ckpt_path", str(ckpt), "--model.init_from", str(ckpt)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyper_parameters": [1]}, "settings of model and data are damaged"),
        ({"hyper_parameters": {"lr": "fast"}}, r"value for --model\.lr is a str"),
        ({"hyper_parameters": {"arch": ["a"]}}, r"value for --model\.arch is a list"),
        ({checkpoint.KEY: RECORD | {"data": {"image_size": True}}}, "damaged"),
        ({checkpoint.KEY: RECORD | {"data": None}}, "damaged"),
        ({checkpoint.KEY: RECORD | {"schema": 0}}, "has layout 0 .*which reads layout 1"),
        ({checkpoint.KEY: RECORD | {"schema": 2, "versions": {"polyp_lightning": "9.0"}}}, "layout 2 .*lightning 9.0"),
        ({checkpoint.KEY: RECORD | {"schema": [], "versions": 7}}, "written by polyp_lightning unknown"),
        ({checkpoint.KEY: None}, "not written by polyp_lightning"),
    ],
)
def test_complete_command__checkpoint_of_another_kind(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_command(["test", "--ckpt_path", str(stored(tmp_path / "a.ckpt", **changes))])


def test_complete_command__a_checkpoint_names_no_class_to_import(tmp_path: Path) -> None:
    evil = MODEL | {"optimizer": "os.system", "lr_scheduler": {"class_path": "os.abort"}, "_instantiator": "os.abort"}
    path = stored(tmp_path / "a.ckpt", hyper_parameters=evil)
    assert complete_command(["test", "--ckpt_path", str(path)]).arguments == ["test", *FLAGS, "--ckpt_path", str(path)]


@pytest.mark.parametrize(
    "content",
    [
        {"trainer": {"callbacks": [{"class_path": "subprocess.Popen", "init_args": {"args": "true"}}]}},
        {"trainer": {"logger": "evil.Logger"}},
        {"trainer": {"callbacks": ["lightning.pytorch.callbacks.LambdaCallback"]}},
        {"model": {"optimizer": "os.system"}},
        {"model": {"optimizer": "torch.optim.os.system"}},
        {
            "model": {
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.LambdaLR",
                    "init_args": {"lr_lambda": "os.abort"},
                }
            }
        },
    ],
)
def test_read_trusted__refuses_a_strangers_code(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"would import .*if you trust it, say so with --config"):
        read_trusted(path)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_read_trusted__no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="give the run's options yourself with --config"):
        read_trusted(tmp_path / "config.yaml")


def test_disagreements__say_who_wins() -> None:
    settings = flatten({"model": {"lr": 0.1, "encoder_weights": "imagenet"}, "pruning": {"target": 0.2, "end": 4}})
    config = flatten({"model": {"lr": 0.2, "encoder_weights": None}, "pruning": {"target": 0.3, "end": 4}})
    lines = list_disagreements(settings, config, resumes=True)
    assert lines == [
        "--model.lr: 0.1 in the checkpoint, 0.2 on the command line; the checkpoint wins, its optimizer goes on "
        "(--model.resume_optimizer false starts it afresh)",
        "--pruning.target: 0.2 in the checkpoint, 0.3 on the command line; the flag wins",
    ]
    afresh = list_disagreements(settings, config | {"model.resume_optimizer": False}, resumes=True)
    assert all(line.endswith("; the flag wins") for line in afresh)
    assert list_disagreements(settings, config, resumes=False)[0].endswith("; the flag wins")


def test_init_from__dense_or_pruned_brings_weights_and_widths(tmp_path: Path) -> None:
    from polyp_lightning import pruning
    from polyp_lightning.training.module import PolypSegmenter

    module = PolypSegmenter(image_size=32, lr=0.5)
    graph = pruning.trace(module.net, (2, 3, 32, 32))
    order = torch.randperm(graph.size, generator=torch.Generator().manual_seed(0))
    pruning.remove(module.net, graph, pruning.select(graph, order.double().numpy(), 0.5))
    content: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(content)
    write(content, tmp_path / "pruned.ckpt")
    found = PolypSegmenter(image_size=64, init_from=str(tmp_path / "pruned.ckpt"))
    assert (found.lr, found.image_size) == (1e-3, 64)
    weights = found.net.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in module.net.state_dict().items())
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in found.net.parameters() if p.ndim == 4)
    with pytest.raises(ConfigError, match=r"both --model\.init_from and --model\.encoder_weights"):
        PolypSegmenter(init_from=str(tmp_path / "pruned.ckpt"), encoder_weights="imagenet")
    with pytest.raises(ConfigError, match="holds Unet with resnet18, but FPN with resnet18 was asked for"):
        PolypSegmenter("FPN", init_from=str(tmp_path / "pruned.ckpt"))
    with pytest.raises(ConfigError, match=r"--model\.init_from nowhere is not a file"):
        PolypSegmenter(init_from="nowhere")
    del content["state_dict"]["net.encoder.conv1.weight"]
    write(content, tmp_path / "torn.ckpt")
    with pytest.raises(ConfigError, match=r"does not fit its weights: they disagree about encoder\.conv1\.weight"):
        PolypSegmenter(init_from=str(tmp_path / "torn.ckpt"))
