"""Checks whether importances predict what removal does: ``taylor-check``.

Every criterion sees the same validation images, in evaluation mode. Then components are removed, one by one and in
growing sets, and the loss is measured on those images. Writes ``taylor-check.png``, and
``correlations.csv``, ``components.csv`` and ``sets.csv``.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch import Tensor

from polyp_lightning.common.log_lines import hush
from polyp_lightning.common.tables import write_table
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.pruning import ChannelGraph, trace
from polyp_lightning.pruning.criteria import CRITERIA, Criterion, Importance, build_criterion
from polyp_lightning.pruning.criteria.oracle import image_losses, split_loss
from polyp_lightning.study.loss_changes import (
    Correlation,
    SetPoint,
    Values,
    correlate,
    draw_components,
    grow_sets,
    measure_changes,
    remove_each,
    remove_together,
    summarise_sets,
)
from polyp_lightning.study.taylor_picture import IN_UNITS_OF_LOSS, draw
from polyp_lightning.training.loaded_run import LoadedRun, load_run
from polyp_lightning.training.module import PolypSegmenter

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    IN_UNITS_OF_LOSS: ("taylor", {"reduction": "signed", "normalise": False}),
    "taylor": ("taylor", {}),
    "taylor square": ("taylor", {"reduction": "square"}),
    "taylor of output": ("taylor", {"signal": "output"}),
    "taylor of random": ("taylor", {"signal": "random"}),
    # The oracle is what they are compared with.
    **{name.replace("_", " "): (name, {}) for name in CRITERIA if name not in ("taylor", "oracle")},
}
"""What is compared: criteria with their options, by the name in the picture."""

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Long enough for a net that has learnt, short enough to wait for.
_EPOCHS, _SIDE = 12, 64
_BATCH = 8


class Batch(NamedTuple):
    """Validation images as the network takes them (N, 3, S, S), and their masks (N, 1, S, S)."""

    images: Tensor
    masks: Tensor


def check(
    ckpt_path: Path | None, root: str | None, images: int, components: int, out: Path, arch: str | None = None
) -> None:
    """Runs the check; prints the correlations and the paths of what was written. The help explains the options."""
    console = Console()
    seed_everything(0, verbose=False)
    run = load_run(ckpt_path or _train(out), root, _BATCH, [arch or ""])
    batch = collect_batch(run, images)
    graph = trace(run.net, (2, *batch.images.shape[1:]))
    importances = compute_importances(run, graph, batch)
    chosen = draw_components(graph, components, seed=0)
    changes = measure_changes(run.net, graph, remove_each(graph, chosen), *batch, run.loss)
    predicted = {name: importance[chosen] for name, importance in importances.items()}
    correlations = {name: correlate(values, changes) for name, values in predicted.items()}
    per_component = importances[IN_UNITS_OF_LOSS]
    sets = {name: measure_sets(run, graph, one, per_component, batch) for name, one in importances.items()}
    caption = _caption(run, batch, len(chosen), graph)
    picture = out / "taylor-check.png"
    draw(picture, caption, predicted, changes, correlations, sets)
    written = [picture, *_write(out, graph, chosen, predicted, changes, correlations, sets)]
    console.print(table(correlations, caption))
    console.print("\n".join(f"wrote {path}" for path in written), highlight=False, soft_wrap=True)


def _train(out: Path) -> Path:
    """Trains a small network on phantoms, and returns its checkpoint."""
    with hush("lightning.pytorch"):
        trainer = Trainer(
            max_epochs=_EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=_EPOCHS,
            log_every_n_steps=1,
        )
        trainer.fit(PolypSegmenter(image_size=_SIDE), datamodule=PolypDataModule(image_size=_SIDE, num_workers=0))
    trainer.save_checkpoint(out / "trained.ckpt")
    return out / "trained.ckpt"


def collect_batch(run: LoadedRun, most: int) -> Batch:
    """Collects the first validation images as the network takes them, and their masks."""
    loaded = list(islice(run.data.val_dataloader(), -(-most // _BATCH)))
    images, masks = (torch.cat([batch[part] for batch in loaded])[:most] for part in ("image", "mask"))
    return Batch(run.trained.network_input(images), masks)


def compute_importances(run: LoadedRun, graph: ChannelGraph, batch: Batch) -> dict[str, Importance]:
    """Computes the importances by every criterion, each image's loss counted by itself."""

    def loss(output: Any, masks: Tensor) -> Tensor:
        return split_loss(output, masks, run.loss).sum()

    result = {}
    for label, (name, given) in VARIANTS.items():
        criterion: Criterion = build_criterion(name, **given)
        criterion.gather(run.net, graph, zip(*(part.split(_BATCH) for part in batch), strict=True), loss)
        result[label] = criterion.importance(run.net, graph)
    return result


def measure_sets(
    run: LoadedRun, graph: ChannelGraph, importance: Importance, per_component: Importance, batch: Batch
) -> list[SetPoint]:
    """Measures growing sets of the least important components; predicted is the sum of ``per_component``."""
    sets = grow_sets(graph, importance, SHARES)
    removals = [remove_together(graph, components) for components in sets]
    changes = measure_changes(run.net, graph, removals, *batch, run.loss)
    return summarise_sets(graph, sets, per_component, changes)


def table(correlations: Mapping[str, Correlation], caption: str) -> Table:
    """Lists criteria with their correlations, the best first."""
    lines = Table(title="Spearman's ρ: importance against measured change of the loss", caption=caption)
    lines.add_column("criterion")
    lines.add_column("change", justify="right")
    lines.add_column("its size", justify="right")
    for name, rho in sorted(correlations.items(), key=lambda item: -max(item[1].signed, item[1].absolute)):
        lines.add_row(name, f"{rho.signed:.3f}", f"{rho.absolute:.3f}")
    return lines


def _caption(run: LoadedRun, batch: Batch, measured: int, graph: ChannelGraph) -> str:
    with torch.no_grad():
        loss = float(image_losses(run.net(batch.images), batch.masks, run.loss).mean())
    net = f"{run.trained.encoder}-{run.trained.arch}".removeprefix("-")
    return (
        f"{net}, {run.data.name}, the first {len(batch.images)} validation images "
        f"at {run.image_size}², loss {loss:.3f} before; {measured} of {graph.size - 1} components, each removed alone; "
        "ρ: Spearman"
    )


def _write(
    out: Path,
    graph: ChannelGraph,
    components: Any,
    predicted: Mapping[str, Values],
    changes: Values,
    correlations: Mapping[str, Correlation],
    sets: Mapping[str, Sequence[SetPoint]],
) -> list[Path]:
    layer = {int(c): group.name for group in graph.groups for c in group.components}
    by_component = (
        [c, layer[int(c)], change.mean(), np.abs(change).mean(), *(values[i] for values in predicted.values())]
        for i, (c, change) in enumerate(zip(components, changes, strict=True))
    )
    return [
        write_table(
            out / "correlations.csv",
            ["criterion", "rho", "rho_of_size"],
            ([name, rho.signed, rho.absolute] for name, rho in correlations.items()),
        ),
        write_table(out / "components.csv", ["component", "layer", "change", "mean_size", *predicted], by_component),
        write_table(
            out / "sets.csv",
            ["criterion", "components", "macs_removed", "change", "predicted_change"],
            ([name, p.components, p.macs, p.measured, p.predicted] for name, ps in sets.items() for p in ps),
        ),
    ]
