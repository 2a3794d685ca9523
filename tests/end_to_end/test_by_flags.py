"""What a user adds to a run by flags: averaging, early stopping, a pruned network to begin with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SmallNet, replace_nets

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.record import KEY
from polyp_lightning.cli import main

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")

SMALL = ["--data.image_size", "32", "--data.batch_size", "4", "--data.num_workers", "0", "--data.cache_dir", "cache"]
RUN = [
    *("fit", *SMALL, "--data.phantom_frames", "14", "--trainer.logger", "false", "--trainer.accelerator", "cpu"),
    *("--pruning.target", "0.5", "--pruning.start", "1", "--pruning.end", "1", "--trainer.default_root_dir"),
]


@pytest.fixture
def callbacks(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the callbacks of the last run."""
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    found: list[str] = []
    setup = TaylorFOPruning.setup

    def around(self: TaylorFOPruning, trainer: Any, *rest: Any, **named: Any) -> None:
        found[:] = [type(callback).__name__ for callback in trainer.callbacks]
        setup(self, trainer, *rest, **named)

    monkeypatch.setattr(TaylorFOPruning, "setup", around)
    return found


def last(run: str) -> dict[str, Any]:
    return read(Path(run) / "checkpoints" / "last.ckpt")


def history(run: str) -> list[dict[str, Any]]:
    (state,) = (v for k, v in last(run)["callbacks"].items() if "Pruning" in k)
    rows: list[dict[str, Any]] = state["history"]
    return rows


def test_fit__average_and_tail_early_stopping_by_flags(callbacks: list[str]) -> None:
    more = [
        "--trainer.callbacks+=polyp_lightning.callbacks.averaging.PrunableEMA",
        "--trainer.callbacks.decay=0.8",
        "--trainer.callbacks+=polyp_lightning.tracking.TailEarlyStopping",
        "--trainer.callbacks.patience=1",
        "--trainer.callbacks.min_delta=1.0",
    ]
    assert main([*RUN, "run", "--trainer.max_epochs", "6", *more]) == 0
    assert {"PrunableEMA", "TailEarlyStopping", "StageCheckpoint", "TaylorFOPruning"} <= set(callbacks)
    # The cut is at the start of epoch 1, the first validation that counts at its end.
    assert last("run")["epoch"] == 2
    assert [row["stage"] for row in history("run")] == [0, 1]
    averaged, trained = last("run")["state_dict"], last("run")["current_model_state"]
    assert not torch.equal(averaged["net.head.weight"], trained["net.head.weight"])
    assert averaged["net.head.weight"].shape == trained["net.head.weight"].shape
    # Going on takes them from the run's own configuration.
    callbacks.clear()
    assert main(["fit", "--ckpt_path", "run/checkpoints/last.ckpt"]) == 0
    assert {"PrunableEMA", "TailEarlyStopping"} <= set(callbacks)


def test_fit__target_after_init_from_is_a_share_of_the_network_at_the_start(
    callbacks: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for run, start in (("first", []), ("second", ["--model.init_from", "first/checkpoints/last.ckpt"])):
        assert main([*RUN, run, "--trainer.max_epochs", "2", *start]) == 0
    first, second = history("first"), history("second")
    assert second[0]["gmacs"] == first[1]["gmacs"] < 0.6 * first[0]["gmacs"]
    assert second[0]["share"] == 1
    assert second[1]["share"] == pytest.approx(0.5, abs=0.1)
    assert second[1]["gmacs"] == pytest.approx(second[0]["gmacs"] * second[1]["share"], rel=0.02)
    assert last("second")[KEY]["init_from"] == "last.ckpt"
    told = [text for text in caplog.messages if "--model.init_from" in text]
    assert len(told) == 1
    assert f"has {first[1]['gmacs']:.3f} GMACs" in told[0]
    assert "0.500 of the MACs means of these, not of the network it was once cut from" in told[0]
