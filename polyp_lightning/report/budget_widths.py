"""Draws which layers go first: the share of every convolution's filters that stays, by budget."""

from collections.abc import Mapping, Sequence

from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.report.cells import SEED_METHOD
from polyp_lightning.report.document import Picture, Section
from polyp_lightning.report.inputs import Study, read_checkpoint
from polyp_lightning.report.numbers import percent
from polyp_lightning.report.plotting import make_literal, open_figure, to_picture

TITLE = "Which layers go first"


def width_section(studies: Sequence[Study], least: int) -> list[Section]:
    """Builds the section from the first seed's checkpoints of the method asked about; empty for few budgets."""
    stages: dict[float, tuple[StageRecord, StageRecord]] = {}
    for study in studies:
        for row in sorted(study.rows, key=lambda row: (-row.target, row.seed)):
            path = study.folder / row.checkpoint
            own = (row.criterion, row.schedule, row.distill) == (SEED_METHOD, "during", 0)
            if own and row.target not in stages and path.is_file():
                history = read_checkpoint(path)[0]
                if len(history) > 1 and history[0].layers:
                    stages[row.target] = history[0], history[-1]
    # Another network has other layers.
    layers = {tuple(dense.layers.items()) for dense, _ in stages.values()}
    if len(stages) < least or len(layers) != 1:
        return []
    kept = {
        target: {layer: now.layers.get(layer, 0) / full for layer, full in dense.layers.items()}
        for target, (dense, now) in stages.items()
    }
    return [Section(TITLE, [_draw(kept)])]


def _draw(kept: Mapping[float, Mapping[str, float]]) -> Picture:
    budgets = sorted(kept, reverse=True)
    layers = list(kept[budgets[0]])
    with open_figure(8.2, max(3.0, 0.15 * len(layers) + 1.2)) as figure:
        axes = figure.add_subplot()
        shares = [[kept[budget][layer] for budget in budgets] for layer in layers]
        image = axes.imshow(shares, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(budgets)), [percent(budget) for budget in budgets])
        axes.set_yticks(range(len(layers)), [make_literal(layer) for layer in layers], fontsize=5.5)
        axes.set_xlabel("MACs kept")
        figure.colorbar(image, label="share of the layer's filters that stays")
        least = [f"{percent(b)}: least of {min(layers, key=lambda n: kept[b][n])}" for b in budgets]
        alt = f"Share of filters that stays in {len(layers)} convolutions. MACs kept, {'; '.join(least)}."
        caption = f"{SEED_METHOD}, first seed; layers from the network's input to its output. Bright: all filters stay."
        return to_picture(figure, "widths-by-budget", alt, caption)
