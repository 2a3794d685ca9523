"""Measuring: what is counted, in which order, and how ratios and budgets come about."""

import csv
import io
import itertools
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from small_models import Exported
from small_videos import write_video

from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.deploy.benchmark import benchmark_report as report
from polyp_lightning.deploy.benchmark import measuring as module
from polyp_lightning.deploy.benchmark.candidates import Candidate
from polyp_lightning.deploy.benchmark.measuring import BenchmarkOptions, Timing, benchmark, compare_rounds, find_late
from polyp_lightning.deploy.benchmark.peak_memory import measure_peak
from polyp_lightning.networks.complexity import measure


def candidate(
    name: str = "a.onnx", backend: str = "onnxruntime", gmacs: float = 1.0, dice: float | None = None
) -> Candidate:
    return Candidate(Path(name), backend, 64, gmacs, 1000, "float32", dice)


def timing(rounds: list[float], **facts: object) -> Timing:
    """A timing whose every stage takes what the network takes."""
    made = Timing(candidate(**facts), rounds=rounds)  # type: ignore[arg-type]
    for stage in made.stages:
        made.stages[stage] = list(rounds)
    return made


def test_ratio__is_formed_within_each_round() -> None:
    # The machine is three times slower in the second round, for both.
    slow, fast = timing([10.0, 30.0, 10.0]), timing([5.0, 15.0, 5.0])
    assert compare_rounds(fast, slow) == pytest.approx((2.0, 2.0, 2.0))
    noisy = timing([5.0, 10.0, 4.0])
    middle, low, high = compare_rounds(noisy, slow)
    assert middle == pytest.approx(2.5)
    assert low == pytest.approx(np.percentile([2.0, 3.0, 2.5], 10))
    assert high == pytest.approx(np.percentile([2.0, 3.0, 2.5], 90))


def test_missed__judges_the_whole_frames_p99() -> None:
    one = timing([1.0] * 100)
    one.stages["total"] = [*[10.0] * 98, 50.0, 50.0]
    assert find_late([one], 49.0) == [one]
    assert find_late([one], 51.0) == []


def test_timing__percentiles_and_fps() -> None:
    one = timing([1.0, 2.0, 3.0, 6.0])
    assert one.percentile("network", 50) == 2.5
    assert one.fps("network") == pytest.approx(1000 / 3)


class Sleeper:
    """A network that takes a known time."""

    calls: ClassVar[list[str]] = []

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        import time

        Sleeper.calls.append(self.name)
        time.sleep(self.seconds)
        return np.zeros((1, 1, 64, 64), np.float32)


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """Two candidates, one three times as slow as the other."""
    both = [candidate("slow.onnx", gmacs=8.0), candidate("fast.onnx", gmacs=1.0)]
    monkeypatch.setattr(module, "list_candidates", lambda *_: both)
    seconds = {"slow.onnx": 0.015, "fast.onnx": 0.005}
    monkeypatch.setattr(module, "load_candidate", lambda one, _: Sleeper(one.model.name, seconds[one.model.name]))
    Sleeper.calls = []
    return both


def test_benchmark__measures_what_is_there(sleepers: list[Candidate], tmp_path: Path) -> None:
    # A short video, so that it has to be opened again and again.
    video = write_video(tmp_path / "v.mp4", 4)
    options = BenchmarkOptions([], source=str(video), rounds=6, frames=5, memory=False)
    slow, fast = benchmark(options, lambda _: None)
    for one, milliseconds in ((slow, 15), (fast, 5)):
        assert one.percentile("network", 50) == pytest.approx(milliseconds, rel=0.3)
        assert Counter(map(len, one.stages.values())) == {30: 5}
        assert len(one.rounds) == 6
        parts = np.sum([one.stages[stage] for stage in module.STAGES], 0)
        assert one.stages["total"] == pytest.approx(parts)
        assert min(one.stages["decode"]) > 0
    middle, _, _ = compare_rounds(fast, slow)
    # By the clock, not by the eight times fewer MACs.
    assert middle == pytest.approx(3.0, rel=0.3)


def test_benchmark__all_take_turns(sleepers: list[Candidate], tmp_path: Path) -> None:
    benchmark(BenchmarkOptions([], rounds=8, frames=2, memory=False), lambda _: None)
    turns = [name for name, _ in itertools.groupby(Sleeper.calls)]
    # Never more than two turns of one in a row, which is where one round ends and the next begins.
    assert len(turns) >= 8
    assert max(len(list(group)) for _, group in itertools.groupby(Sleeper.calls)) <= 2 * 4


def test_benchmark__real_models_side_by_side(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [exported("onnx"), exported("onnx", int8=True)]
    arguments = [part for model in models for part in ("--model", str(model))]
    output = tmp_path / "table"
    command = ["benchmark", *arguments, "--rounds", "2", "--frames", "3", "--output", str(output), "--no_memory"]
    assert main([*command, "--budget_ms", "10000"]) == 0
    assert capsys.readouterr().out.count("pass: ") == 6
    assert main([*command[:-3], "--no_memory", "--backend", "onnxruntime", "--budget_ms", "0.01"]) == 1
    assert capsys.readouterr().out.count("FAIL: ") == 2
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["backend"]) for row in rows] == [
        (model.name, backend) for model in models for backend in ("onnxruntime", "openvino", "openvino-bf16")
    ]
    assert tuple(rows[0]) == report.COLUMNS
    assert rows[0]["times_faster"] == ""
    assert float(rows[3]["times_fewer_macs"]) == 1.0
    assert float(rows[3]["network_p50_ms"]) <= float(rows[3]["network_p99_ms"])
    with Image.open(output.with_suffix(".png")) as picture:
        assert picture.size[0] > 800


@pytest.mark.parametrize(("load", "marked"), [(0.2, False), (3.14, True)])
def test_benchmark__marks_times_taken_under_load(
    sleepers: list[Candidate], monkeypatch: pytest.MonkeyPatch, load: float, marked: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 9.0, 9.0))
    timings = benchmark(BenchmarkOptions([], rounds=1, frames=2, memory=False), lambda _: None)
    rows = report.list_rows(timings, 1)
    assert [row["load"] for row in rows] == [load] * len(sleepers)
    titles = [str(table.title) for table in report.build_tables(rows)]
    assert ["load 3.1 on" in title for title in titles] == [marked] * 2


def test_benchmark__a_checkpoint_runs_in_torch(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "--model", str(checkpoint), "--backend", "torch", "--rounds", "1", "--frames", "2"]
    assert main([*command, "--no_memory", "--image_size", "96"]) == 0
    cost = measure(load_net(checkpoint).net, 96).gmacs
    assert f"{cost:.3f}" in capsys.readouterr().out


@pytest.mark.slow
def test_benchmark__torch_compile(checkpoint: Path) -> None:
    options = BenchmarkOptions([checkpoint], backends=["torch", "torch-compile"], rounds=1, frames=2, memory=False)
    assert [one.candidate.backend for one in benchmark(options, lambda _: None)] == ["torch", "torch-compile"]


def test_peak_memory__is_of_a_process_of_its_own(exported: Exported) -> None:
    ballast = np.ones(2 << 28, np.uint8)
    one = Candidate(exported("onnx"), "onnxruntime", 64, 1.0, 1, "float32", None)
    peak = measure_peak(one, 1)
    assert ballast.nbytes == 2 << 28
    assert peak is not None
    assert 50 < peak < 450


def test_peak_memory__of_what_fails_is_unknown(tmp_path: Path) -> None:
    assert measure_peak(candidate(str(tmp_path / "none.onnx")), 1) is None


def test_write_png__shows_dice_where_it_is_known(tmp_path: Path) -> None:
    plain = report.list_rows([timing([10.0], gmacs=4.0), timing([5.0], name="b.onnx", gmacs=1.0)], 1)
    scored = report.list_rows(
        [timing([10.0], gmacs=4.0, dice=0.9), timing([5.0], name="b.onnx", gmacs=1.0, dice=0.8)], 1
    )
    widths = []
    for name, table in {"plain": plain, "scored": scored}.items():
        report.write_png(table, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            widths.append(picture.size[0])
    assert widths[1] == 2 * widths[0]


def test_terminal_table__never_calls_fewer_macs_faster() -> None:
    table = report.list_rows([timing([10.0, 10.0], gmacs=4.0), timing([11.0, 11.0], name="b.onnx", gmacs=1.0)], 2)
    console = Console(width=140, file=io.StringIO(), record=True)
    for shown in report.build_tables(table):
        console.print(shown)
    text = console.export_text()
    assert "0.91 (0.91–0.91)" in text
    assert "4.00" in text
    assert "2 threads, batch 1, 64²" in text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image_size": 96}, ConfigError, r"--image_size 96, but .* was exported for 64²: export it again"),
        ({"backends": ["torch"]}, ConfigError, r"backend torch does not run .*allowed: onnxruntime"),
        ({"threads": 0}, ConfigError, "must be at least 1"),
        ({"rounds": 0}, ConfigError, "must be at least 1"),
        ({"source": "none.mp4"}, DataError, r"none\.mp4 is neither a file"),
    ],
)
def test_benchmark__refuses(exported: Exported, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        benchmark(BenchmarkOptions(**{"models": [exported("onnx")], "memory": False, **change}), lambda _: None)


def test_benchmark__refuses_a_size_for_a_checkpoint(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="--image_size 100 must be a multiple of 32"):
        benchmark(BenchmarkOptions([checkpoint], image_size=100, memory=False), lambda _: None)
