from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyp_lightning.cli import main
from polyp_lightning.cli.moved_classes import MOVED, use_new_names
from polyp_lightning.cli.trusted_config import is_known, read_trusted
from polyp_lightning.common.errors import ConfigError

# As configurations of before the move name them, whether or not they have moved.
OLD = [
    "polyp_lightning.pruning.averaging.PrunableEMA",
    "polyp_lightning.pruning.callback.TaylorFOPruning",
    "polyp_lightning.prediction.MaskWriter",
    "polyp_lightning.tracking.ProgressBar",
    "polyp_lightning.tracking.RunLogger",
    "polyp_lightning.tracking.RunTracker",
    "polyp_lightning.tracking.ScoreWriter",
    "polyp_lightning.tracking.StageCheckpoint",
    "polyp_lightning.tracking.StageSummary",
    "polyp_lightning.tracking.TailEarlyStopping",
    "polyp_lightning.tracking.checkpoints.StageCheckpoint",
    "polyp_lightning.tracking.logger.RunLogger",
    "polyp_lightning.tracking.progress.ProgressBar",
    "polyp_lightning.tracking.scores.ScoreWriter",
    "polyp_lightning.tracking.stopping.TailEarlyStopping",
    "polyp_lightning.tracking.summary.StageSummary",
    "polyp_lightning.tracking.tracker.RunTracker",
]
STOPPING, AVERAGING = "polyp_lightning.tracking.TailEarlyStopping", "polyp_lightning.pruning.averaging.PrunableEMA"


def find_class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("old", OLD)
def test_use_new_names__is_where_the_class_is_today(old: str) -> None:
    found = find_class(use_new_names(old))
    assert found.__name__ == old.rpartition(".")[2]


@pytest.mark.parametrize("old", MOVED)
def test_use_new_names__only_this_projects_classes_that_may_be_named(old: str) -> None:
    assert is_known(old)
    assert is_known(MOVED[old])
    assert use_new_names(MOVED[old]) == MOVED[old]


@pytest.mark.parametrize("text", [f"evil.{STOPPING}", f"{STOPPING}s", f"{STOPPING}.run", "polyp_lightning.tracking"])
def test_use_new_names__leaves_other_names_alone(text: str) -> None:
    assert use_new_names(text) == text


@pytest.mark.parametrize("name", [f"evil.{AVERAGING}", f"{AVERAGING}.evil.Class", "os.system"])
def test_read_trusted__an_old_name_lets_no_other_class_in(name: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": [{"class_path": AVERAGING}, {"class_path": name}]}}))
    with pytest.raises(ConfigError, match="would import"):
        read_trusted(config)


def class_paths(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The callbacks of the resolved configuration."""
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *arguments, "--print_config"])
    assert stopped.value.code == 0
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    return [callback["class_path"].rpartition(".")[2] for callback in callbacks]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "old.yaml"],
        [f"--trainer.callbacks+={STOPPING}", f"--trainer.callbacks+={AVERAGING}"],
        ["--trainer.callbacks", f"[{{class_path: {STOPPING}}}, {{class_path: {AVERAGING}}}]"],
    ],
)
def test_fit__reads_old_names_wherever_a_class_is_named(
    arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"trainer": {"callbacks": [{"class_path": STOPPING}, {"class_path": AVERAGING}]}}
    (here / "old.yaml").write_text(yaml.safe_dump(old))
    assert class_paths(arguments, capsys) == ["TailEarlyStopping", "PrunableEMA"]
