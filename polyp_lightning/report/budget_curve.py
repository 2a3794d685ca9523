"""Draws and tells to what share of the MACs pruning holds: the curve against the dense network, with its tests."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, ScalarFormatter

from polyp_lightning.common.files import write_beside
from polyp_lightning.report.cells import SEED_METHOD
from polyp_lightning.report.document import Block, Paragraph, Points, Section, Table
from polyp_lightning.report.numbers import DASH, number, p_value, percent, signed
from polyp_lightning.report.plotting import Look, choose_looks, make_literal, open_figure, tidy, to_picture
from polyp_lightning.study.curve import ALL, ALPHA, MARGINS, CurvePoint, find_held
from polyp_lightning.study.replicates import DENSE
from polyp_lightning.study.statistics import RESAMPLES

TITLE = "To what share of the MACs does pruning hold?"

_OWN_MARKERS, _OTHERS_MARKERS = "osDPX", "^v<>"

LEAST = 3
"""Budgets that make a curve."""

_METHOD = (
    "Every network of a seed starts from the same dense one and trains on for equally long, the dense reference too, "
    "where the study has a parent. Differences to it are paired over images and seeds. Intervals: 95 %, percentile "
    f"bootstrap that resamples seeds and images (Owen 2007, doi:10.1214/07-AOAS122; {RESAMPLES} resamples). Not "
    f"inferior: the one-sided test of being worse by the margin or more has p ≤ {ALPHA}, at this budget and at all "
    "larger ones, tested in that order, so that a margin needs no other correction (Westfall and Krishen 2001, "
    "doi:10.1016/S0378-3758(01)00077-5). Margins: 0.01 and 0.02 of Dice; 5 and 10 % of the dense network's HD95, over "
    "images where both networks have one. Frames of one video resemble each other: on such a test set, intervals are "
    "too narrow."
)

_PANELS = (
    ("share", "MACs, share of the dense network's", "dice", "test Dice"),
    ("params_share", "parameters, share of the dense network's", "dice", "test Dice"),
    ("share", "MACs, share of the dense network's", "hd95", "test HD95 in pixels"),
)


def group_curves(points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
    """Groups points that are comparable, as they come; only those where the seed's method has a curve."""
    groups: dict[tuple[object, ...], list[CurvePoint]] = {}
    for one in points:
        key = (one.arch, one.encoder, one.data, one.split, one.test_set, one.image_size, one.epochs)
        groups.setdefault(key, []).append(one)
    return [own for own in groups.values() if len(_line(own, SEED_METHOD, "dice")) >= LEAST]


def curve_section(points: Sequence[CurvePoint]) -> list[Section]:
    """Builds the section of the curve: answer, drawing and table of every setting; empty without a curve."""
    blocks: list[Block] = []
    for place, own in enumerate(group_curves(points)):
        words = answer_curve(own)
        blocks.append(Points(words))
        with open_figure(12.5, 4.6) as figure:
            _fill(figure, own)
            blocks.append(to_picture(figure, f"curve-{place}", " ".join(words), _caption(own)))
        blocks.append(_table(own))
    return [Section(TITLE, [*blocks, Paragraph(_METHOD)])] if blocks else []


def write_curve_png(points: Sequence[CurvePoint], path: Path) -> None:
    """Draws the first setting's curve as a PNG."""
    own = group_curves(points)[0]
    with open_figure(12.5, 4.6) as figure:
        _fill(figure, own)
        figure.suptitle(_setting(own), fontsize=9, parse_math=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    with write_beside(path) as beside:
        beside.write_bytes(buffer.getvalue())


def answer_curve(own: Sequence[CurvePoint]) -> list[str]:
    """Answers to what share pruning holds, by Dice and by HD95, in a sentence each."""
    return [f"{_setting(own)}: {_answer(own, 'dice')}", f"By the border: {_answer(own, 'hd95')}"]


def _answer(own: Sequence[CurvePoint], metric: str) -> str:
    line = _line(own, SEED_METHOD, metric)
    said = []
    for margin, column in zip(MARGINS[metric], ("p_strict", "p_loose"), strict=True):
        much = f"{margin:g} of Dice" if metric == "dice" else f"{percent(margin)} of HD95"
        held = find_held(line, metric, column)
        if held:
            said.append(f"down to {percent(held.target)} of the MACs not worse by {much} ({_evidence(held, column)})")
        elif line:
            said.append(f"at no budget shown to be not worse by {much} (the largest: {_evidence(line[-1], column)})")
    return f"{SEED_METHOD} is {'; '.join(said)}." if said else "not measured."


def _evidence(one: CurvePoint, column: str) -> str:
    p = p_value(getattr(one, column))
    equals = "" if p.startswith("<") else "= "
    return f"{percent(one.params_share)} of the parameters, {_difference(one)}, p {equals}{p}, {one.images} images"


def _difference(one: CurvePoint) -> str:
    digits = 3 if one.metric == "dice" else 1
    difference, low, high = (signed(value, digits) for value in (one.difference, one.low, one.high))
    return f"{difference} [{low}, {high}]"


def _line(own: Sequence[CurvePoint], method: str, metric: str) -> list[CurvePoint]:
    """Returns a method's points of all seeds, the smallest budget first."""
    found = [one for one in own if (one.method, one.metric, one.seed) == (method, metric, ALL)]
    return sorted(found, key=lambda one: one.target)


def _setting(own: Sequence[CurvePoint]) -> str:
    one = own[0]
    seeds = len({point.seed for point in own} - {ALL})
    return (
        f"{one.net}, {one.data} ({one.split}), tested on {one.test_set}, {one.image_size}², "
        f"{seeds} seed{'s' * (seeds != 1)}"
    )


def _caption(own: Sequence[CurvePoint]) -> str:
    return (
        f"{_setting(own)}. Lines: means; band and bars: 95 % interval of the paired difference to dense, around its "
        "mean (dotted). Grey: the two margins. Filled: not inferior by the stricter one; hollow: not shown. "
        "Triangles: other software."
    )


def _fill(figure: Figure, own: Sequence[CurvePoint]) -> None:
    looks = tell_apart(own)
    every = figure.subplots(1, len(_PANELS))
    for axes, (cost, x, metric, y) in zip(every, _PANELS, strict=True):
        _margins(axes, own, metric)
        for method, look in looks.items():
            _series(axes, _line(own, method, metric), look, cost, metric)
        _share_axis(axes)
        tidy(axes, x, y)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def tell_apart(own: Sequence[CurvePoint]) -> dict[str, Look]:
    """Chooses a look for each method: the seed's, the project's others, then other software's, which are triangles."""
    schedules = {one.method: one.schedule for one in own if one.method != DENSE}
    order = sorted(schedules, key=lambda method: (schedules[method] == "outside", method != SEED_METHOD))
    markers = {False: cycle(_OWN_MARKERS), True: cycle(_OTHERS_MARKERS)}
    return {
        method: replace(look, marker=next(markers[schedules[method] == "outside"]))
        for method, look in choose_looks(order).items()
    }


def _margins(axes: Axes, own: Sequence[CurvePoint], metric: str) -> None:
    """Draws the dense network's mean, and how much worse would still be no worse."""
    for dense in _line(own, DENSE, metric):
        axes.axhline(dense.value, color="black", linewidth=0.8, linestyle=":", label=f"dense ({number(dense.value)})")
        for margin in MARGINS[metric]:
            edge = dense.value - margin if metric == "dice" else dense.value * (1 + margin)
            axes.axhspan(min(edge, dense.value), max(edge, dense.value), color="0.5", alpha=0.12, linewidth=0)


def _series(axes: Axes, line: Sequence[CurvePoint], look: Look, cost: str, metric: str) -> None:
    if not line:
        return
    x, y = [getattr(one, cost) for one in line], [one.value for one in line]
    low, high = ([one.value - one.difference + getattr(one, end) for one in line] for end in ("low", "high"))
    ours = line[0].method == SEED_METHOD
    held = find_held(line, metric, "p_strict")
    style = {
        "color": look.colour,
        "linestyle": look.dash,
        "linewidth": 1.8 if ours else 0.9,
        "zorder": 3 if ours else 2,
    }
    axes.plot(x, y, label=make_literal(line[0].method), marker=look.marker, markerfacecolor="white", **style)  # type: ignore[arg-type]
    if held:
        good = [place for place, one in enumerate(line) if one.target >= held.target]
        axes.plot([x[i] for i in good], [y[i] for i in good], look.marker, color=look.colour, zorder=4)
    if ours:
        axes.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)
    else:
        axes.vlines(x, low, high, color=look.colour, linewidth=0.8)
    if ours and held:
        axes.axvline(getattr(held, cost), color=look.colour, linewidth=0.8, linestyle="--")


def _share_axis(axes: Axes) -> None:
    """Doubles the share with every step, since budgets do so rather than fall by equal amounts."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(right=1.08)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))


def _table(own: Sequence[CurvePoint]) -> Table:
    head = ["method", "MACs kept", "parameters", "ms", "Dice", "minus dense", "p, 0.01", "p, 0.02", "HD95 minus dense"]
    head += ["p, 5 %", "p, 10 %"]
    rows = list(_rows(own))
    return Table(head, rows, f"{_setting(own)}. Means over seeds; p before the order of testing is minded.")


def _rows(own: Sequence[CurvePoint]) -> Iterator[list[str]]:
    border = {(one.method, one.target): one for one in own if (one.metric, one.seed) == ("hd95", ALL)}
    for one in (one for one in own if (one.metric, one.seed) == ("dice", ALL)):
        other = border.get((one.method, one.target))
        costs = [percent(one.share), percent(one.params_share), number(one.ms, 1)]
        found = [number(one.value), DASH, DASH, DASH, DASH, DASH, DASH]
        if one.method != DENSE:
            found[1:4] = [_difference(one), p_value(one.p_strict), p_value(one.p_loose)]
            if other:
                found[4:] = [_difference(other), p_value(other.p_strict), p_value(other.p_loose)]
        yield [one.method, *costs, *found]
