"""Whether the loader keeps up with the training step, and if not, how far augmentation on the device helps."""

import time
from importlib.util import find_spec
from typing import Any

import torch
from common_data import data_module
from setting import Setting
from speed import images_per_second

ENOUGH = 0.95


def run(setting: Setting) -> None:
    """Compares images per second; where the loader starves the step and kornia is there, tries that."""
    wanted = images_per_second(setting)
    loader = data_module(setting, setting.side, setting.batch).train_dataloader()
    given = _rate(setting, loader)
    share, workers = min(given / wanted, 1.0), loader.num_workers
    got = f"{share:.0%} ({given:.0f} of {wanted:.0f} /s)"
    asked = f"≥ {ENOUGH:.0%}"
    ok = None if setting.rehearse else share >= ENOUGH
    setting.results.row(f"loader with {workers} workers against what the step eats, {setting.side}²", asked, got, ok)
    what = "augmentation on the device by kornia"
    if share >= ENOUGH:
        setting.results.skip(what, "the loader keeps up")
    elif find_spec("kornia") is None:
        setting.results.skip(what, "the loader starves the step, but kornia is not installed")
    else:
        _with_kornia(setting, what, loader, wanted)


def _rate(setting: Setting, loader: Any) -> float:
    """Images per second, of epochs after a first one that starts the workers and fills the cache."""
    for _ in loader:
        pass
    count, start, seconds = 0, time.perf_counter(), 0.2 if setting.rehearse else 6
    while time.perf_counter() - start < seconds:
        count += sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - start)


def _with_kornia(setting: Setting, what: str, loader: Any, wanted: float) -> None:
    import kornia.augmentation as K

    augment = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomVerticalFlip(p=0.5),
        K.RandomAffine(30, (0.08, 0.08), (0.85, 1.2), p=0.7),
        K.ColorJitter(0.2, 0.2, 0.2, p=0.7),
        data_keys=["input", "mask"],
    )
    batch = setting.training_batch()
    images, masks = batch["image"].float() / 255, batch["mask"].float()
    milliseconds = setting.milliseconds(lambda: augment(images, masks))
    loader.dataset.augment = None
    # The workers that are running have copies of the data set.
    loader = torch.utils.data.DataLoader(
        loader.dataset, setting.batch, sampler=loader.sampler, num_workers=loader.num_workers,
        persistent_workers=loader.num_workers > 0, pin_memory=setting.cuda, collate_fn=loader.collate_fn,
    )  # fmt: skip
    bare = _rate(setting, loader)
    eaten = 1 / (1 / wanted + milliseconds / 1e3 / setting.batch)
    got = f"{min(bare, eaten):.0f} /s (loader {bare:.0f}, step with it {eaten:.0f})"
    setting.results.row(what, f"> {wanted:.0f} /s × share", got, None)
