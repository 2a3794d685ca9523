"""Precision, accumulation, clipping, optimizers, frozen parts: scores are the same, and weights move after each cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from small_run import SmallNet, replace_nets, unmixed
from torch import Tensor

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.training.module import PolypSegmenter

SGD: Callable[..., Any] = lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True)  # noqa: E731


class Watch(Callback):
    """The scores of the epoch before the first cut, and which weights each epoch moves."""

    def __init__(self) -> None:
        self.scores = torch.zeros(0)
        self.before: dict[str, Tensor] = {}
        self.still: list[list[str]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters() if p.requires_grad}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = dict(pl_module.named_parameters())
        self.still.append([n for n, value in self.before.items() if torch.equal(value, now[n])])
        criterion = next(c for c in trainer.callbacks if isinstance(c, TaylorFOPruning))._criterion  # type: ignore[attr-defined]
        if trainer.current_epoch == 0:
            self.scores = criterion.total.clone() / criterion.count  # type: ignore[attr-defined]
        for name, parameter in now.items():
            for value in trainer.optimizers[0].state.get(parameter, {}).values():
                if torch.is_tensor(value) and value.ndim:
                    assert value.shape == parameter.shape, name


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, lr: float = 1e-2, frozen: bool = False, **options: Any
) -> Watch:
    def make(*_: Any) -> torch.nn.Module:
        net = unmixed(SmallNet())
        if frozen:
            net.get_submodule("encoder").requires_grad_(False)
        return net

    replace_nets(make, monkeypatch)
    seed_everything(0)
    optimizer = options.pop("optimizer", torch.optim.AdamW)
    module = PolypSegmenter(
        image_size=64, lr=lr, optimizer=optimizer, lr_scheduler=lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)
    )
    watch, pruning = Watch(), TaylorFOPruning(0.5, 1, 2, recalibration_batches=0)
    data = PolypDataModule(phantom_frames=28, image_size=64, batch_size=4, num_workers=0, cache_dir=str(folder / "c"))
    trainer = Trainer(
        max_epochs=4,
        default_root_dir=folder,
        callbacks=[watch, pruning],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    trainer.fit(module, datamodule=data)
    assert pruning.stage == 2
    return watch


TRICKS: dict[str, tuple[dict[str, Any], float]] = {
    # What differs from the plain run, and how far the scores may be from its.
    "accumulation": ({"accumulate_grad_batches": 2}, 1e-5),
    "clipping": ({"gradient_clip_val": 1e-3}, 1e-5),
    "sgd with momentum": ({"optimizer": SGD}, 1e-5),
    "adam": ({"optimizer": torch.optim.Adam}, 1e-5),
    "adamw foreach": ({"optimizer": lambda p: torch.optim.AdamW(p, foreach=True)}, 1e-5),
    "adamw fused": ({"optimizer": lambda p: torch.optim.AdamW(p, fused=True)}, 1e-5),
    "float64": ({"precision": "64-true"}, 1e-4),
    "bfloat16": ({"precision": "bf16-mixed"}, 0.1),
    "deterministic": ({"deterministic": True}, 1e-5),
    "frozen encoder": ({"frozen": True}, 1e-5),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("options", "tolerance"), TRICKS.values(), ids=TRICKS)
def test_trick__scores_are_the_plain_ones_and_weights_move_after_each_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], tolerance: float
) -> None:
    # Hardly any step: the same weights, and so the same scores, whatever the optimizer.
    scores = [run(tmp_path, monkeypatch, lr=1e-12, **o).scores for o in ({}, options)]
    assert scores[0].abs().max() > 0
    torch.testing.assert_close(scores[1], scores[0], rtol=tolerance, atol=tolerance * float(scores[0].abs().max()))
    assert run(tmp_path, monkeypatch, **options).still == [[]] * 4
