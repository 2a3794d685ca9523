"""The sections on studies."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from polyp_lightning.data.dataset import Dataset, ImageId
from polyp_lightning.report import curves
from polyp_lightning.report.answer import QUESTION, Question, answer, find_question
from polyp_lightning.report.budget_curve import LEAST, curve_section
from polyp_lightning.report.budget_widths import width_section
from polyp_lightning.report.cells import collect_cells, group_by_setting
from polyp_lightning.report.comparing import compare_studies, read_scored_cells
from polyp_lightning.report.document import Block, Commands, Paragraph, Picture, Points, Section, Table
from polyp_lightning.report.dots import draw_dice_by_method, find_single_target
from polyp_lightning.report.inputs import Study, read_checkpoint
from polyp_lightning.report.loss_check import CHECK, explain_check, find_check, show_check
from polyp_lightning.report.numbers import number, percent, spread, thousands
from polyp_lightning.report.run_sections import TERMS
from polyp_lightning.study.curve import build_curve
from polyp_lightning.study.replicates import DENSE, Replicates, Setting, keep_common_seeds
from polyp_lightning.study.results import RUNS, Result, read_images

_TIMED = (
    "Measured by each run at its end, with whatever else the machine did then, or for all networks in turns by "
    "`study --retime` on a machine without other work; only the latter are times to quote."
)

_COMMANDS = 12
"""Commands shown: a study has hundreds, and its table holds them all."""


def study_sections(studies: Sequence[Study], root: Path, *, frames: bool, named: Collection[str] = ()) -> list[Section]:
    """Builds all sections on studies, at least one, whose rows are taken together; see :func:`run_sections`."""
    rows = [row for study in studies for row in study.rows]
    if not rows:
        return [Section("Study", [Paragraph("No run of the study has been tested yet.")])]
    found = collect_cells(rows)
    question = find_question(found)
    comparisons = compare_studies(studies)
    lines: list[Block] = [Paragraph(QUESTION), Points(answer(question, comparisons, found))]
    return [
        Section("Question and answer", lines),
        *curve_section(build_curve(*read_scored_cells(studies))),
        *width_section(studies, LEAST),
        _curves(found),
        *_times(found),
        *_widths(studies, question),
        *_checks(studies, question),
        *(_frames(studies, question, root, named) if frames and question else []),
        Section("All results", [_table(setting, own) for setting, own in group_by_setting(found).items()]),
        *([Section("Paired comparisons", comparisons.blocks())] if comparisons else []),
        _protocol(rows),
    ]


def _curves(found: Sequence[Replicates]) -> Section:
    groups = group_by_setting(found)
    targets = {find_single_target(own) for own in groups.values()}
    # A title that is true of all drawings.
    (target,) = targets if len(targets) == 1 else (None,)
    title = f"Dice by method at {percent(target)} of the MACs" if target else "Dice against GMACs"
    return Section(title, [_dice(f"gmacs-{place}", *group) for place, group in enumerate(groups.items())])


def _dice(name: str, setting: Setting, own: Sequence[Replicates]) -> Picture:
    """Draws Dice against GMACs; at a single target, where that would be one vertical line, by method."""
    target = find_single_target(own)
    if target:
        note = "Bars: means over seeds. Circles: seeds. Dashed: the dense network."
        return draw_dice_by_method(own, name, f"{setting}. {percent(target)} of the dense MACs. {note}")
    note = "Points: means over seeds. Bands and bars: ± one standard deviation over seeds, where there are several."
    unit = f"GMACs per image at {setting.image_size}²"
    return curves.draw_dice_against("gmacs", unit, own, name, f"{setting}. {note}")


def _times(found: Sequence[Replicates]) -> list[Section]:
    """Makes one drawing for each setting and each way of measuring: times of different machines don't compare."""
    pictures: list[Picture] = []
    rows = [row for cell in found for row in cell.rows if row.ms == row.ms]
    ways = dict.fromkeys((row.machine, row.ms_backend, row.threads) for row in rows)
    for machine, backend, threads in ways:
        own = [row for row in rows if (row.machine, row.ms_backend, row.threads) == (machine, backend, threads)]
        # A network takes the same time on every test set: the first is its own.
        groups = group_by_setting(collect_cells(own))
        first = {replace(setting, test_set=""): setting for setting in reversed(groups)}
        for setting in reversed(first.values()):
            group = groups[setting]
            unit = f"ms per image: {backend}, {threads} thread{'s' * (threads != 1)}, batch 1"
            note = f"{setting}. {machine}, {backend}, {threads} thread{'s' * (threads != 1)}, batch 1, network alone."
            pictures.append(curves.draw_dice_against("ms", unit, group, f"ms-{len(pictures)}", note))
    return [Section("Dice against measured time", [Paragraph(_TIMED), *pictures])] if pictures else []


def _widths(studies: Sequence[Study], question: Question | None) -> list[Section]:
    """Draws those of the first seed of the asked method, where its checkpoint lies in the study's folder."""
    for row in question.pruned.rows if question else ():
        path = _checkpoint(studies, [row])
        if path is None:
            continue
        stages = read_checkpoint(path)[0]
        if len(stages) > 1 and stages[0].layers:
            intro = Paragraph(f"{row.run}: {question.pruned.setting.net}, seed {row.seed}." if question else "")
            return [
                Section("Widths, dense against pruned", [intro, curves.draw_widths(stages[0], stages[-1], "widths")])
            ]
    return []


def _checks(studies: Sequence[Study], question: Question | None) -> list[Section]:
    folders = [folder for study in studies if (folder := find_check(study.folder))]
    blocks = list(chain.from_iterable(show_check(folder, f"check-{n}") for n, folder in enumerate(folders)))
    dense = _checkpoint(studies, question.dense.rows) if question else None
    if not blocks and dense:
        blocks = explain_check(dense, studies[0].folder)
    return [Section(CHECK, blocks)] if blocks else []


def _checkpoint(studies: Sequence[Study], rows: Sequence[Result]) -> Path | None:
    """Finds the checkpoint of the first row whose file lies in its study's folder."""
    paths = [study.folder / row.checkpoint for row in rows for study in studies if row in study.rows]
    return next((path for path in paths if path.is_file()), None)


def _frames(studies: Sequence[Study], question: Question, root: Path, named: Collection[str]) -> list[Section]:
    """Those of the first common seed alone: a mean over seeds would not be what the contours show."""
    title = "Frames where pruning hurt most"
    common = keep_common_seeds(question.dense, question.pruned)
    sides = [cell.only(common[0].seeds[:1]) for cell in common]
    dense, pruned = (_image_dice(studies, cell) for cell in sides)
    paths = [_checkpoint(studies, cell.rows) for cell in sides]
    if not dense or not pruned or paths[0] is None or paths[1] is None:
        return [Section(title, [Paragraph("Not shown: values of single images or checkpoints are not in the folder.")])]
    from polyp_lightning.report.frames import Drop, Nets, find_worst, show_worst

    setting = question.pruned.setting

    def find(_: Nets, dataset: Dataset) -> list[tuple[Drop, ImageId]]:
        ids = {image[1]: image for image in dataset.tests.get(setting.test_set, [])}
        return [(drop, ids[drop.name]) for drop in find_worst(dense, pruned) if drop.name in ids]

    text = (
        f"{setting}. {question.pruned.method} at {percent(question.pruned.target)} against dense, both "
        f"of seed {sides[0].seeds[0]}. {TERMS}"
    )
    return show_worst(title, text, (paths[0], paths[1]), root, "frame", find, named)


def _image_dice(studies: Sequence[Study], cell: Replicates) -> dict[str, list[float]]:
    """Returns image → its Dice by seed."""
    found: dict[str, list[float]] = {}
    for study in studies:
        for row in cell.rows:
            folder = study.folder / RUNS / row.run
            if row not in study.rows or not folder.is_dir():
                continue
            for image in read_images(folder):
                if image.test_set == row.test_set:
                    found.setdefault(image.name, []).append(image.dice)
    return found


def _table(setting: Setting, own: Sequence[Replicates]) -> Table:
    head = [
        "method", "target", "n", "epochs", "Dice", "IoU", "PraNet's Dice", "HD95 px", "false positives", "val Dice",
        "GMACs", "parameters", "ms",
    ]  # fmt: skip
    table = Table(head, [_cells(cell) for cell in own], "")
    # A column that says nothing pushes others off the page: most data sets have no frame without a polyp.
    silent = table.silent
    facts, target = [str(setting)], find_single_target(own)
    if target:
        facts.append(f"{percent(target)} of the MACs but for {DENSE}")
        silent.add("target")
    if len({cell.epochs for cell in own}) == 1:
        facts.append(f"{own[0].epochs} epochs")
        silent.add("epochs")
    caption = f"{', '.join(facts)}. {' '.join(text for name, text in _READ.items() if name not in silent)}"
    return replace(table.without(silent), caption=caption)


_READ = {
    "n": "Mean ± standard deviation over n seeds.",
    "Dice": "Dice and IoU: per image at 0.5, original size, mean over images.",
    "PraNet's Dice": "PraNet's Dice: over 256 thresholds.",
    "false positives": "False positives: share of frames without a polyp on which something is found.",
    "val Dice": "val Dice: network resolution, by which the checkpoint was chosen.",
    "ms": "ms: median of one image; the machine stands under the protocol.",
}
"""How columns are to be read."""


def _cells(cell: Replicates) -> list[str]:
    target = percent(1.0 if cell.method == DENSE else cell.target)
    scores = [_spread(cell, field, digits) for field, digits in _SCORES]
    costs = [number(cell.mean("gmacs")), thousands(cell.mean("params")), _spread(cell, "ms", 1)]
    return [cell.method, target, str(len(cell.rows)), str(cell.epochs), *scores, *costs]


_SCORES = (("dice", 3), ("iou", 3), ("pranet_dice", 3), ("hd95", 1), ("false_positive_rate", 3), ("val_dice", 3))


def _spread(cell: Replicates, field: str, digits: int) -> str:
    return spread(cell.mean(field), cell.deviation(field), digits)


def _protocol(rows: Sequence[Result]) -> Section:
    seeds = sorted({row.seed for row in rows})
    machines = dict.fromkeys(f"{row.machine} ({row.ms_backend}, threads: {row.threads})" for row in rows if row.machine)
    dates = sorted({row.date[:10] for row in rows if row.date})
    minutes = {row.run: row.minutes for row in rows if row.minutes == row.minutes}
    starts = sorted({row.encoder_weights or "random" for row in rows})
    commands = list(dict.fromkeys(row.command for row in rows if row.command))
    points = [
        f"{len({row.run for row in rows})} runs, seeds {', '.join(map(str, seeds))}.",
        f"Tested on {', '.join(dict.fromkeys(row.test_set for row in rows))}.",
        "Checkpoints are chosen on the validation images; each chosen network is tested once.",
        f"Encoders start from: {', '.join(starts)}.",
        f"Machines and how time was measured: {'; '.join(machines) or 'not known'}.",
        f"Computing time: {sum(minutes.values()) / 60:.2g} hours in all.",
        f"Dates: {dates[0]} to {dates[-1]}." if dates else "Dates: not known.",
        *(f"Versions: {version}." for version in dict.fromkeys(row.versions for row in rows if row.versions)),
    ]
    blocks: list[Block] = [Points(points)]
    if commands:
        left = f" (the first {_COMMANDS} of {len(commands)}; the others stand in the study's table)"
        blocks.append(Paragraph("Commands" + (left if len(commands) > _COMMANDS else "") + ":"))
        blocks.append(Commands(commands[:_COMMANDS]))
    return Section("Protocol, seeds, commands, versions", blocks)
