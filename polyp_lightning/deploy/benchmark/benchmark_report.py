"""A benchmark as a table, a CSV and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from polyp_lightning.common.files import write_beside
from polyp_lightning.common.machine import busy, processor
from polyp_lightning.deploy.benchmark.measuring import STAGES, Timing, compare_rounds

COLUMNS = (
    "model", "backend", "precision", "threads", "processor", "image_size", "gmacs", "params", "test_dice",
    "network_p50_ms", "network_p90_ms", "network_p99_ms", "network_fps",
    "decode_p50_ms", "preprocess_p50_ms", "postprocess_p50_ms",
    "total_p50_ms", "total_p90_ms", "total_p99_ms", "total_fps",
    "times_faster", "times_faster_low", "times_faster_high", "times_fewer_macs", "peak_memory_mb", "frames", "load",
)  # fmt: skip
"""Columns of the CSV; a cell is empty where there is no number.

Ratios are to the first model in the same backend; the load is that of the machine's other work before the start."""


def list_rows(timings: Sequence[Timing], threads: int) -> list[dict[str, Any]]:
    """Returns one row a candidate, with the values of :data:`COLUMNS`."""
    return [_row(timing, find_reference(timing, timings), threads) for timing in timings]


def find_reference(timing: Timing, timings: Sequence[Timing]) -> Timing | None:
    """Returns what a ratio is formed with: the first model in the same backend, None for that model itself."""
    same = [other for other in timings if other.candidate.backend == timing.candidate.backend]
    return None if same[0] is timing else same[0]


def _row(timing: Timing, reference: Timing | None, threads: int) -> dict[str, Any]:
    one = timing.candidate
    found: dict[str, Any] = {
        "model": one.model.name, "backend": one.backend, "precision": one.precision, "threads": threads,
        "processor": processor(), "image_size": one.image_size, "gmacs": one.gmacs, "params": one.params,
        "test_dice": one.dice, "network_fps": timing.fps("network"), "total_fps": timing.fps("total"),
        "peak_memory_mb": timing.memory_mb, "frames": len(timing.stages["total"]),
        "load": timing.load,
    }  # fmt: skip
    for stage in (*STAGES, "total"):
        for percent in (50, 90, 99):
            found[f"{stage}_p{percent}_ms"] = timing.percentile(stage, percent)
    if reference is not None:
        faster, low, high = compare_rounds(timing, reference)
        fewer = reference.candidate.gmacs / one.gmacs
        found |= {"times_faster": faster, "times_faster_low": low, "times_faster_high": high, "times_fewer_macs": fewer}
    return {key: found.get(key) for key in COLUMNS}


def build_tables(table: Sequence[dict[str, Any]]) -> list[Table]:
    """Shows milliseconds a frame: of the network alone, and of the whole way from the decoder to the mask."""
    first = table[0]
    threads = f"{first['threads']} thread{'s' * (first['threads'] > 1)}"
    where = f"{first['processor']}, {threads}, batch 1, {first['image_size']}², milliseconds a frame{_mark(first)}"
    network = _start_table(
        f"Network: {where}", ("GMACs", "Dice", "p50", "p90", "p99", "FPS", "times faster", "fewer MACs")
    )
    network.caption = "times faster: against the first model in the same backend; median (middle 80 %) of the rounds"
    whole = _start_table(
        f"Decoder to mask: {where}",
        ("decode", "preprocess", "network", "postprocess", "p50", "p90", "p99", "FPS", "peak MB"),
    )
    whole.caption = "one after the other on the same thread; the first four are medians"
    for row in table:
        name = row["model"] if row["precision"] == "float32" else f"{row['model']} [{row['precision']}]"
        network.add_row(name, row["backend"], *_network_cells(row))
        whole.add_row(name, row["backend"], *_whole_cells(row))
    return [network, whole]


def _mark(row: dict[str, Any]) -> str:
    """Marks times that other work may have made longer."""
    warning = busy(row["load"])
    return f"; {warning}" if warning else ""


def _start_table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("model", "backend"):
        table.add_column(name, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _network_cells(row: dict[str, Any]) -> list[str]:
    faster = "–"
    if row["times_faster"] is not None:
        faster = f"{row['times_faster']:.2f} ({row['times_faster_low']:.2f}–{row['times_faster_high']:.2f})"
    times = [_format(row[f"network_p{percent}_ms"], 1) for percent in (50, 90, 99)]
    macs, fewer = _format(row["gmacs"], 3), _format(row["times_fewer_macs"], 2)
    return [macs, _format(row["test_dice"], 3), *times, _format(row["network_fps"], 1), faster, fewer]


def _whole_cells(row: dict[str, Any]) -> list[str]:
    parts = [_format(row[f"{stage}_p50_ms"], 1) for stage in STAGES]
    times = [_format(row[f"total_p{percent}_ms"], 1) for percent in (50, 90, 99)]
    return [*parts, *times, _format(row["total_fps"], 1), _format(row["peak_memory_mb"], 0)]


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def write_png(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws latency, and Dice where it is known, against GMACs; one line a backend."""
    from matplotlib.figure import Figure

    scored = any(row["test_dice"] is not None for row in table)
    figure = Figure(figsize=(6.4 * (1 + scored), 4.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 1 + scored, squeeze=False)[0]
    backends = list(dict.fromkeys((row["backend"], row["precision"]) for row in table))
    for number, key in enumerate(backends):
        own = sorted((row for row in table if (row["backend"], row["precision"]) == key), key=lambda row: row["gmacs"])
        label = key[0] if key[1] == "float32" else f"{key[0]}, {key[1]}"
        look = f"{'osD^vP*X'[number % 8]}-"
        axes[0].plot([row["gmacs"] for row in own], [row["network_p50_ms"] for row in own], look, label=label)
        known = [row for row in own if row["test_dice"] is not None]
        if known:
            axes[1].plot([row["gmacs"] for row in known], [row["test_dice"] for row in known], look, label=label)
    axes[0].set_ylabel("milliseconds a frame, network, p50")
    axes[0].set_ylim(bottom=0.0)
    if scored:
        axes[1].set_ylabel("test Dice, original resolution")
        _widen(axes[1], least=0.05)
    for axis in axes:
        axis.set_xlabel("GMACs a frame")
        axis.set_xlim(left=0.0)
        axis.grid(visible=True, color="0.9")
        axis.legend(fontsize=8)
    first = table[0]
    title = f"{first['processor']}, threads: {first['threads']}, batch 1, {first['image_size']}²{_mark(first)}"
    figure.suptitle(title, fontsize=10, wrap=True)
    with write_beside(path) as beside:
        figure.savefig(beside, format="png")


def _widen(axis: Any, least: float) -> None:
    """Lets the vertical axis span at least so much: a difference in the third decimal is not to look like a cliff."""
    low, high = axis.get_ylim()
    missing = max(0.0, least - (high - low))
    axis.set_ylim(low - missing / 2, high + missing / 2)
