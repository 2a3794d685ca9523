"""Modules of other projects, unchanged: one line prunes them, exactly, to the target, and they resume."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from strangers import STRANGERS
from torch import nn

from polyp_lightning.callbacks import TaylorFOPruning, load_from_checkpoint
from polyp_lightning.pruning.budget import Limits

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget", "ignore:training ended before")
FOUND = {
    "smp, binary": "model",
    "smp, three classes": "model",
    "lightning-hydra-template": "net",
    "torchvision classifier": "",
    "MONAI, volumes": "_model",
    "torchgeo's kind, 13 channels and metadata": "model",
}


def trainer(folder: Path, pruning: TaylorFOPruning, epochs: int, *more: Any, **options: Any) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=[pruning, *more],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers__one_line_prunes_to_the_target_exactly_and_resumes(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    module, train, val = STRANGERS[name]()
    pruning = TaylorFOPruning(0.5, 1, 2, check="always", limits=Limits(floor=0.0))
    fitter = trainer(tmp_path, pruning, 3, ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1))
    fitter.fit(module, train, val)
    # The line that the user adds is TaylorFOPruning's: nothing of the module is asked for.
    assert [row.epoch for row in pruning.history] == [0, 1, 2]
    assert pruning.history[-1].share == pytest.approx(0.5, abs=0.02)
    assert pruning._finder.name == FOUND[name]
    net = module.get_submodule(FOUND[name])
    held = {id(p) for group in fitter.optimizers[0].param_groups for p in group["params"]}
    assert held >= {id(p) for p in net.parameters() if p.requires_grad}

    # Resumed between the cuts, in a process that knows the dense network alone, it ends the same.
    torch.manual_seed(0)
    again, train, val = STRANGERS[name]()
    other = TaylorFOPruning(0.5, 1, 2, limits=Limits(floor=0.0))
    trainer(tmp_path / "again", other, 3).fit(again, train, val, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert [row.layers for row in other.history] == [row.layers for row in pruning.history]
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}

    # Any checkpoint loads: pruned into dense, and dense into pruned.
    fresh, _, val = STRANGERS[name]()
    for checkpoint in ("epoch=2.ckpt", "epoch=0.ckpt", "epoch=1.ckpt"):
        tester = trainer(tmp_path, TaylorFOPruning(0.5, 1, 2), 3)
        tester.validate(fresh, val, ckpt_path=tmp_path / checkpoint, verbose=False)
        stored = torch.load(tmp_path / checkpoint, weights_only=True)["state_dict"]
        assert all(torch.equal(stored[key], value) for key, value in fresh.state_dict().items())
        assert fresh.state_dict().keys() == {key for key in stored if not key.startswith("pruned;")}


def test_load_from_checkpoint__loads_without_a_trainer_what_the_class_alone_can_not(tmp_path: Path) -> None:
    from strangers import CamVid

    module, train, val = STRANGERS["smp, binary"]()
    pruning = TaylorFOPruning(0.5, 1, 1, limits=Limits(floor=0.0))
    fitter = trainer(tmp_path, pruning, 2)
    fitter.fit(module, train, val)
    fitter.save_checkpoint(tmp_path / "after.ckpt")
    fitter.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    with pytest.raises(RuntimeError, match=r"polyp_lightning\.callbacks\.load_from_checkpoint\(YourModule, path\)"):
        CamVid.load_from_checkpoint(tmp_path / "after.ckpt")
    image = torch.rand(2, 3, 32, 32)
    for name in ("after.ckpt", "weights.ckpt"):
        loaded = load_from_checkpoint(CamVid, tmp_path / name)
        assert type(loaded) is CamVid
        assert torch.equal(loaded.eval()(image), module.eval()(image))
