import math
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from results import a_result
from studies import written
from torch import nn

from polyp_lightning.checkpoints.trained import TrainedNet
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study import timing
from polyp_lightning.study.plan import read_study
from polyp_lightning.study.results import append_result, read_results
from polyp_lightning.study.timing import retime, time_undisturbed


class Played:
    """Takes a network's bias for its time, and may wait meanwhile."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits, self.order = waits, list[float]()

    def __call__(self, net: nn.Module, shape: Sequence[int]) -> float:
        time.sleep(0.2 if self.waits else 0)
        self.order.append(net.bias.item())
        # The third turn is slower: the median of three does not know it.
        return self.order[-1] * (10 if self.order.count(self.order[-1]) == 3 else 1)


def net(bias: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.bias, bias)
    return layer


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def loaded(path: Path, flag: str, named: list[str]) -> TrainedNet:
        known = {"net": net(float(path.stem)), "image_size": 64}
        return TrainedNet(**{field.name: known.get(field.name) for field in fields(TrainedNet)})

    monkeypatch.setattr(timing, "load_net", loaded)
    for name in ("5.0", "7.0", "gone"):
        for test_set in ("own", "other"):
            checkpoint = f"{name}.ckpt"
            append_result(
                tmp_path / "results.csv",
                a_result(run=name, test_set=test_set, checkpoint=checkpoint, ms=99.0, ms_backend="x", threads=9),
            )
    for name in ("5.0", "7.0"):
        (tmp_path / f"{name}.ckpt").touch()
    return tmp_path


def test_undisturbed__a_process_that_had_to_wait_has_no_time() -> None:
    assert math.isnan(time_undisturbed(Played(waits=True), net(3.0), (1,)))


def test_retime__in_turns_and_for_all_test_sets_of_a_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played()
    monkeypatch.setattr(timing, "build_timer", lambda backend, threads: played)
    monkeypatch.setattr(timing, "time_undisturbed", lambda timer, *given: timer(*given))
    study = read_study(written(out))
    before = read_results(out)
    assert retime(study, out) == 2
    assert played.order == [5.0, 7.0] * 3
    after = read_results(out)
    assert [row.ms for row in after[:4]] == [5.0, 5.0, 7.0, 7.0]
    # No time is kept that was measured in another way than the others.
    assert all(math.isnan(row.ms) for row in after[4:])
    assert {(row.ms_backend, row.threads) for row in after[:4]} == {("torch", 1)}
    assert [replace(row, ms=0.0, ms_backend="", threads=0, machine="") for row in after] == [
        replace(row, ms=0.0, ms_backend="", threads=0, machine="") for row in before
    ]


def test_retime__a_busy_machine_changes_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "build_timer", lambda backend, threads: Played(waits=True))
    content = (out / "results.csv").read_bytes()
    with pytest.raises(ConfigError, match="the machine has other work to do; nothing was changed"):
        retime(read_study(written(out)), out)
    assert (out / "results.csv").read_bytes() == content


def test_retime__without_a_checkpoint(out: Path) -> None:
    for path in out.glob("*.ckpt"):
        path.unlink()
    with pytest.raises(ConfigError, match="no run in"):
        retime(read_study(written(out)), out)
