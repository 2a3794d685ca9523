"""The sections on single runs."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from os.path import normpath
from pathlib import Path
from typing import Any

from polyp_lightning.callbacks.score_table import CAPTION, MEASURES
from polyp_lightning.checkpoints.run_folder import training_options
from polyp_lightning.checkpoints.stages import StageRecord, join_layers
from polyp_lightning.checkpoints.test_scores import read_scores
from polyp_lightning.common.tables import read_table
from polyp_lightning.networks.names import name_net
from polyp_lightning.report import curves
from polyp_lightning.report.document import Block, Commands, Paragraph, Points, Section, Table
from polyp_lightning.report.inputs import FitRun
from polyp_lightning.report.loss_check import CHECK, explain_check, find_check, show_check
from polyp_lightning.report.numbers import number, percent, signed, thousands

_BENCHMARK = ("network_p50_ms", "gmacs", "processor", "threads", "backend", "model")
TERMS = "Frames are of data sets for research and education: mind their terms before passing this page on."


def run_sections(runs: Sequence[FitRun], root: Path, *, frames: bool, named: Collection[str] = ()) -> list[Section]:
    """Builds all sections on runs, at least one; ``frames`` says whether images of the data sets are shown.

    ``named`` are the networks of the user's own that may be imported for it.
    """
    labels = name_runs(runs)
    sections = [_question(labels), _curves(labels)]
    for number_, (label, run) in enumerate(labels.items()):
        check = _check(run, number_, advise=len(labels) == 1)
        found = [_stages(run), *_tests(run), *_widths(run, number_), *_frozen(run), *_speed(run), *check]
        found += _frames(run, root, number_, named) if frames else []
        prefix = f"{label}: " if len(labels) > 1 else ""
        sections += [Section(prefix + part.title, part.blocks) for part in found]
    return [*sections, _protocol(labels)]


def name_runs(runs: Sequence[FitRun]) -> dict[str, FitRun]:
    """Gives each run a name of its own: the folder's, with a number where several have the same."""
    labels: dict[str, FitRun] = {}
    for run in runs:
        label, count = run.name, 2
        while label in labels:
            label, count = f"{run.name} ({count})", count + 1
        labels[label] = run
    return labels


def _question(labels: Mapping[str, FitRun]) -> Section:
    text = "What does the network lose when its least important filters are removed, and what becomes cheaper?"
    controls = {label: find_control(run, labels) for label, run in labels.items()}
    lines = [_answer(label, run.stages, labels, controls[label]) for label, run in labels.items()]
    blocks: list[Block] = [Paragraph(text), Points(lines)]
    lacking = {label: run for label, run in labels.items() if controls[label] is None and _was_cut(run.stages)}
    if lacking:
        text = (
            "What pruning costs can't be told without a dense network of equal training: along the stages, training "
            "and pruning change Dice together. A dense run with the same options, and a report on both, tell:"
        )
        blocks += [Paragraph(text), *(_dense_commands(run) for run in lacking.values() if run.config)]
    honest = "One run with one seed each: differences of a hundredth of Dice say nothing; a study over seeds does."
    return Section("Question and answer", [*blocks, Paragraph(honest)])


def find_control(run: FitRun, labels: Mapping[str, FitRun]) -> str | None:
    """Finds the dense run that was trained like a pruned one: same data, network, start, options and epochs."""
    if not run.config or not _was_cut(run.stages):
        return None
    same = (
        label
        for label, other in labels.items()
        if len(other.stages) == 1 and other.stages[0].score_best is not None and _training(other) == _training(run)
    )
    return next(same, None)


def _training(run: FitRun) -> dict[str, Any]:
    """What decides a training, but for pruning."""
    facts = {key: run.facts.get(key) for key in ("data", "split", "image_size", "cache_key")}
    return {**facts, **training_options(run.config)}


def _was_cut(stages: Sequence[StageRecord]) -> bool:
    return len(stages) > 1 and stages[-1].score_best is not None


def _dense_commands(run: FitRun) -> Commands:
    dense, config = _beside(run, "dense"), str(run.folder / "config.yaml")
    fit = ["fit", "--config", config, "--pruning.target", "1", "--trainer.default_root_dir", dense]
    report = ["report", str(run.folder), dense]
    return Commands([f"python -m polyp_lightning {shlex.join(words)}" for words in (fit, report)])


def _beside(run: FitRun, word: str) -> str:
    """A folder for another run beside this one."""
    return normpath(run.folder / ".." / f"{run.name}-{word}")


def _answer(label: str, stages: Sequence[StageRecord], labels: Mapping[str, FitRun], control: str | None) -> str:
    if not stages:
        return f"{label}: nothing is known of its stages; it was trained without the pruning callback."
    first, last = stages[0], stages[-1]
    if not _was_cut(stages):
        return (
            f"{label}: {number(last.gmacs)} GMACs, validation Dice {number(last.score_best)}; this run removed nothing."
        )
    text = (
        f"{label}: {percent(last.share)} of the dense MACs remain ({number(first.gmacs)} → {number(last.gmacs)} "
        f"GMACs) and {thousands(last.params)} of {thousands(first.params)} parameters"
    )
    if control is None:
        return f"{text}; best validation Dice of its last stage {number(last.score_best)}."
    dense = labels[control].stages[0]
    change = signed((last.score_best or 0.0) - (dense.score_best or 0.0))
    return (
        f"{text}; best validation Dice {number(dense.score_best)} dense ({control}, trained equally) → "
        f"{number(last.score_best)} ({change})."
    )


def _curves(labels: Mapping[str, FitRun]) -> Section:
    known = {label: run.stages for label, run in labels.items() if any(row.score_end is not None for row in run.stages)}
    if not known:
        return Section("Dice against GMACs", [Paragraph("No stage was validated.")])
    controls = [control for run in labels.values() if (control := find_control(run, labels))]
    return Section("Dice against GMACs", [curves.draw_runs(known, "stages", controls)])


def _stages(run: FitRun) -> Section:
    head = ["stage", "from epoch", "GMACs", "of dense", "parameters", "before cut", "right after", "end", "best"]
    rows = [
        [
            str(row.stage), str(row.epoch), number(row.gmacs), percent(row.share), thousands(row.params),
            *(number(value, 4) for value in (row.score_before, row.score_after, row.score_end, row.score_best)),
        ]
        for row in run.stages
    ]  # fmt: skip
    size = run.facts.get("image_size")
    where = f", GMACs at {size}²" if size else ""
    return Section("Stages", [Table(head, rows, f"The last four: validation Dice at network resolution{where}.")])


def _tests(run: FitRun) -> list[Section]:
    """Shows what `test` has left in the run's folder."""
    rows = [
        [scores.checkpoint, test_set, f"{values['images']:.0f}", *(number(values.get(key)) for key in _METRICS)]
        for scores in read_scores(run.folder)
        for test_set, values in scores.test_sets.items()
    ]
    if not rows:
        text = (
            "Not tested yet: `python -m polyp_lightning test --ckpt_path FILE` leaves its scores in the run's folder."
        )
        return [Section("Test", [Paragraph(text)])]
    caption = (
        f"{CAPTION} PraNet's Dice: over 256 thresholds; HD95 in pixels. Alarms at the network's threshold: on frames "
        "without a polyp, on frames with one, and of polyps."
    )
    table = Table(["checkpoint", "test set", "images", *_METRICS.values()], rows, caption)
    # Most data sets have no frame without a polyp.
    return [Section("Test", [table.without(table.silent)])]


_METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "dice_pranet": "PraNet's Dice",
    **{key: screen for key, (screen, _) in MEASURES.items() if key not in ("dice", "iou")},
    "hd95": "HD95",
    "false_positive_rate": "false alarms",
    "frame_sensitivity": "frames found",
    "polyp_sensitivity": "polyps found",
}


def _widths(run: FitRun, number_: int) -> list[Section]:
    if len(run.stages) < 2 or not run.stages[0].layers:
        return []
    return [
        Section(
            "Widths, dense against pruned", [curves.draw_widths(run.stages[0], run.stages[-1], f"widths-{number_}")]
        )
    ]


def _frozen(run: FitRun) -> list[Section]:
    """Shows what no cut of the dense network can take, and why."""
    if not run.stages or not run.stages[0].frozen:
        return []
    dense = run.stages[0]
    rows = [[str(sum(layers.values())), join_layers(layers), cause] for cause, layers in dense.frozen.items()]
    caption = f"{percent(dense.frozen_share)} of the convolutions' filters, and of linear layers' where there are any."
    return [Section("What can't be cut, and why", [Table(["filters", "layers", "because of"], rows, caption)])]


def _speed(run: FitRun) -> list[Section]:
    rows = [row for path in sorted(run.folder.glob("*.csv")) for row in _benchmark(path)]
    if not rows:
        return []
    cells = [
        [row["model"], row["backend"], row["gmacs"][:7], row["network_p50_ms"][:6], row["threads"], row["processor"]]
        for row in rows
    ]
    caption = "Median milliseconds of a frame, network alone, batch 1; written by `benchmark`."
    return [
        Section("Measured time", [Table(["model", "backend", "GMACs", "ms", "threads", "machine"], cells, caption)])
    ]


def _benchmark(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a table that `benchmark` has written; no rows of any other file."""
    columns, rows = read_table(path, errors="replace")
    return rows if set(_BENCHMARK) <= set(columns) else []


def _check(run: FitRun, number_: int, *, advise: bool) -> list[Section]:
    folder = find_check(run.folder)
    if folder is not None:
        return [Section(CHECK, show_check(folder, f"check-{number_}"))]
    return [Section(CHECK, explain_check(run.best[0], run.folder))] if advise and 0 in run.best else []


def _frames(run: FitRun, root: Path, number_: int, named: Collection[str]) -> list[Section]:
    title = "Validation frames where pruning hurt most"
    last = max(run.best, default=0)
    if not last or 0 not in run.best:
        return []
    # Imports PyTorch, which the rest does without where there is no checkpoint.
    from polyp_lightning.report.frames import find_validation_drops, show_worst

    text = f"Best checkpoint of the dense stage against that of stage {last}, at the original size. {TERMS}"
    paths = run.best[0], run.best[last]
    shown = show_worst(title, text, paths, root, f"frame-{number_}", find_validation_drops, named)
    return shown or [Section(title, [Paragraph(text)])]


def _protocol(labels: Mapping[str, FitRun]) -> Section:
    blocks: list[Block] = []
    for label, run in labels.items():
        facts = [f"{key.replace('_', ' ')}: {value}" for key, value in run.facts.items() if "cache" not in key]
        options = {
            "network": name_net(str(run.option("model", "arch")), str(run.option("model", "encoder"))),
            "start": Path(run.option("model", "init_from") or run.option("model", "encoder_weights") or "random").name,
            "criterion": run.option("pruning", "criterion"),
            "target": run.option("pruning", "target"),
            "epochs": run.option("trainer", "max_epochs"),
            "seed": run.config.get("seed_everything"),
        }
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        lines = [", ".join(facts), ", ".join(f"{key} {value}" for key, value in options.items() if value is not None)]
        blocks.append(Points([f"{label}: {text}" for text in (*lines, versions) if text]))
        if run.config:
            config = str(run.folder / "config.yaml")
            words = ["fit", "--config", config, "--trainer.default_root_dir", _beside(run, "again")]
            blocks.append(Commands([f"python -m polyp_lightning {shlex.join(words)}"]))
    return Section("Protocol, seeds, commands, versions", blocks)
