"""The curve of a study as charts of a W&B run of its own."""

from pathlib import Path
from typing import Any

from polyp_lightning.common.tables import read_table
from polyp_lightning.tracking.logger import choose_mode

_NUMBERS = {"target", "share", "params_share", "value", "difference", "low", "high", "p_strict", "p_loose"}
_METRICS = {"dice": "test Dice", "hd95": "test HD95 in pixels"}


def log_curve(path: Path, project: str) -> None:
    """Logs the table of a curve, as a study's report writes it, and a chart of each metric against the MACs kept.

    The run is offline unless the user is logged in, as every other.
    """
    import wandb

    header, rows = read_table(path)
    mode: Any = choose_mode(None)
    with wandb.init(project=project, name=path.stem, job_type="curve", mode=mode) as run:
        cells = [[_number(row[name]) if name in _NUMBERS else row[name] for name in header] for row in rows]
        run.log({"curve": wandb.Table(columns=list(header), data=cells)})
        for test_set in dict.fromkeys(row["test_set"] for row in rows):
            for metric, words in _METRICS.items():
                lines = collect_lines([row for row in rows if row["test_set"] == test_set], metric)
                if lines:
                    title = f"{words} of {test_set} against the share of MACs"
                    run.log({f"curve_{metric}/{test_set}": _chart(lines, title)})


def collect_lines(rows: list[dict[str, str]], metric: str) -> dict[str, list[tuple[float, float]]]:
    """Collects the points (share of the MACs, mean) of each method over all seeds, and its interval's ends."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(rows, key=lambda row: float(row["share"])):
        if (row["seed"], row["metric"]) != ("all", metric):
            continue
        share, value, difference = (float(row[name]) for name in ("share", "value", "difference"))
        lines.setdefault(row["method"], []).append((share, value))
        for end in ("low", "high"):
            if row[end] and row["method"] != "dense":
                lines.setdefault(f"{row['method']}, {end} end", []).append(
                    (share, value - difference + float(row[end]))
                )
    return lines


def _chart(lines: dict[str, list[tuple[float, float]]], title: str) -> Any:
    import wandb

    return wandb.plot.line_series(
        xs=[[x for x, _ in points] for points in lines.values()],
        ys=[[y for _, y in points] for points in lines.values()],
        keys=list(lines),
        title=title,
        xname="share of the MACs",
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
