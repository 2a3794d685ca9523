from types import SimpleNamespace
from typing import Any

import pytest

from polyp_lightning.cli.loggers import RUN_FOLDER, complete_logger, forget_prepared, prepare_logger


def options(class_path: str, **arguments: Any) -> Any:
    """Those of a fit, as far as they matter here."""
    logger = SimpleNamespace(class_path=class_path, init_args=SimpleNamespace(**arguments))
    return SimpleNamespace(
        seed_everything=3,
        ckpt_path=None,
        trainer=SimpleNamespace(logger=logger, default_root_dir="runs/a"),
        data=SimpleNamespace(name="kvasir", image_size=192),
        model=SimpleNamespace(arch="FPN", encoder="resnet18"),
        pruning=SimpleNamespace(target=0.25, target_params=None, target_gmacs=None, target_ms=None, criterion="fpgm"),
    )


def ours(**given: Any) -> Any:
    empty = dict.fromkeys(("save_dir", "name", "group", "job_type", "tags"))
    return options("polyp_lightning.tracking.logger.RunLogger", **empty | given)


@pytest.mark.parametrize("name", ["CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger"])
def test_complete_logger__adds_the_folder_that_is_needed(name: str) -> None:
    line = ["fit", "--trainer.logger", name]
    own = [f"--trainer.logger.save_dir={RUN_FOLDER}", "--trainer.logger.name=lightning_logs"]
    assert complete_logger(line) == [*line, *own]
    given = [*line, "--trainer.logger.save_dir", "logs", "--trainer.logger.name=mine"]
    assert complete_logger(given) == given


@pytest.mark.parametrize(
    "line", [["fit"], ["fit", "--trainer.logger", "false"], ["fit", "--trainer.logger=MLFlowLogger"]]
)
def test_complete_logger__leaves_others_alone(line: list[str]) -> None:
    assert complete_logger(line) == line


def test_prepare_logger__tells_what_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "WANDB_TAGS"):
        monkeypatch.delenv(name, raising=False)
    found = ours(group="mine")
    prepare_logger(found, "fit")
    told = found.trainer.logger.init_args
    assert (told.save_dir, told.group) == ("runs/a", "mine")
    assert told.name == "kvasir FPN-resnet18 fpgm 0.250 of the MACs seed 3"
    assert told.tags == ["kvasir", "FPN", "resnet18", "fpgm"]
    # The configuration keeps only what the user has said.
    forget_prepared(found, "fit")
    assert vars(told) == dict.fromkeys(("save_dir", "name", "job_type", "tags")) | {"group": "mine"}


def test_prepare_logger__the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_NAME", "theirs")
    found = ours()
    prepare_logger(found, "fit")
    assert found.trainer.logger.init_args.name is None


def test_prepare_logger__another_logger_gets_the_folder() -> None:
    found = options("lightning.pytorch.loggers.CSVLogger", save_dir=RUN_FOLDER)
    prepare_logger(found, "fit")
    assert found.trainer.logger.init_args.save_dir == "runs/a"
    forget_prepared(found, "fit")
    assert found.trainer.logger.init_args.save_dir == RUN_FOLDER
