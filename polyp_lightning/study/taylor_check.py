"""Checks whether importances predict what removal does: ``taylor-check``.

Every criterion sees the same validation images, in evaluation mode. Then components are removed, one by one and in
growing sets, and the loss is measured on those images. Writes ``taylor-check.png``, and
``correlations.csv``, ``components.csv`` and ``sets.csv``.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch import Tensor

from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.common.tables import write_table
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.pruning import ChannelGraph, trace
from polyp_lightning.pruning.criteria import CRITERIA, Criterion, Importance, build_criterion
from polyp_lightning.pruning.criteria.oracle import image_losses
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
from polyp_lightning.study.taylor_picture import draw
from polyp_lightning.training.module import PolypSegmenter

IN_UNITS_OF_LOSS = "taylor signed, not normalised"
"""The criterion whose importances are changes of the loss."""

SUMMED = "taylor"
"""The criterion for whose growing sets the sum of predicted changes is drawn."""

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


class Batch(NamedTuple):
    """Validation images as the network takes them (N, 3, S, S), and their masks (N, 1, S, S)."""

    images: Tensor
    masks: Tensor


def check(ckpt_path: Path | None, root: str | None, images: int, components: int, out: Path) -> None:
    """Runs the check; prints the correlations and the paths of what was written.

    Args:
        ckpt_path: a checkpoint of ours; None trains a small network first.
        root: the folder of data sets, for the checkpoint's data; None for $POLYP_DATA.
        images: how many validation images, the first ones.
        components: how many are removed one by one.
        out: the folder for what is written.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    console = Console()
    seed_everything(0, verbose=False)
    module, data = _trained(out) if ckpt_path is None else _loaded(ckpt_path, root)
    batch = collect_batch(module, data, images)
    graph = trace(module.net, (2, *batch.images.shape[1:]))
    importances = compute_importances(module, graph, batch)
    chosen = draw_components(graph, components, seed=0)
    changes = measure_changes(module.net, graph, remove_each(graph, chosen), *batch, module.loss)
    predicted = {name: importance[chosen] for name, importance in importances.items()}
    correlations = {name: correlate(values, changes) for name, values in predicted.items()}
    per_component = importances[IN_UNITS_OF_LOSS]
    sets = {name: measure_sets(module, graph, one, per_component, batch) for name, one in importances.items()}
    caption = _caption(module, data, batch, len(chosen), graph)
    picture = out / "taylor-check.png"
    draw(picture, caption, predicted, changes, correlations, sets, IN_UNITS_OF_LOSS, SUMMED)
    written = [picture, *_write(out, graph, chosen, predicted, changes, correlations, sets)]
    console.print(table(correlations, caption))
    console.print("\n".join(f"wrote {path}" for path in written), highlight=False, soft_wrap=True)


def _trained(out: Path) -> tuple[PolypSegmenter, PolypDataModule]:
    data = PolypDataModule(image_size=_SIDE, num_workers=0)
    module = PolypSegmenter(image_size=_SIDE)
    trainer = Trainer(
        max_epochs=_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=_EPOCHS,
        log_every_n_steps=1,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(out / "trained.ckpt")
    return module, data


def _loaded(path: Path, root: str | None) -> tuple[PolypSegmenter, PolypDataModule]:
    found = read_record(path).data
    module = PolypSegmenter.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    split = found.get("split")
    name = found.get("data", "phantom")
    data = PolypDataModule(
        name, root, split if name != "phantom" else None, image_size=module.image_size, num_workers=0
    )
    return module, data


def collect_batch(module: PolypSegmenter, data: PolypDataModule, most: int) -> Batch:
    """Collects the first validation images as the network takes them, and their masks."""
    data.prepare_data()
    data.setup("validate")
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for loaded in data.val_dataloader():
        images.append(loaded["image"])
        masks.append(loaded["mask"])
        if sum(map(len, images)) >= most:
            break
    seen: list[Tensor] = []
    # What the network itself is given: the module normalises on the way.
    handle = module.net.register_forward_pre_hook(lambda net, args: seen.append(args[0]))
    with evaluation_mode(module), torch.no_grad():
        module(torch.cat(images)[:most])
    handle.remove()
    return Batch(seen[0], torch.cat(masks)[:most])


def compute_importances(module: PolypSegmenter, graph: ChannelGraph, batch: Batch) -> dict[str, Importance]:
    """Computes the importances by every criterion, each image's loss counted by itself."""

    def loss(output: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([module.loss(output[n : n + 1], masks[n : n + 1]) for n in range(len(masks))]).sum()

    result = {}
    with evaluation_mode(module):
        for label, (name, given) in VARIANTS.items():
            criterion: Criterion = build_criterion(name, **given)
            criterion.gather(module.net, graph, zip(*(part.split(8) for part in batch), strict=True), loss)
            result[label] = criterion.importance(module.net, graph)
    return result


def measure_sets(
    module: PolypSegmenter, graph: ChannelGraph, importance: Importance, per_component: Importance, batch: Batch
) -> list[SetPoint]:
    """Measures growing sets of the least important components; predicted is the sum of ``per_component``."""
    sets = grow_sets(graph, importance, SHARES)
    removals = [remove_together(graph, components) for components in sets]
    changes = measure_changes(module.net, graph, removals, *batch, module.loss)
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


def _caption(module: PolypSegmenter, data: PolypDataModule, batch: Batch, measured: int, graph: ChannelGraph) -> str:
    with evaluation_mode(module), torch.no_grad():
        loss = float(image_losses(module.net(batch.images), batch.masks, module.loss).mean())
    return (
        f"{module.encoder}-{module.arch}, {data.name}, the first {len(batch.images)} validation images at "
        f"{module.image_size}², loss {loss:.3f} before; {measured} of {graph.size - 1} components, each removed alone; "
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
