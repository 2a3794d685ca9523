"""The data of the speed and study parts: packed Kvasir-SEG where it was brought along, else drawn frames."""

import os

import pack
from setting import Setting

from polyp_lightning.data.datamodule import PolypDataModule


def data_module(setting: Setting, side: int, batch: int) -> PolypDataModule:
    workers = 0 if setting.rehearse else min(8, os.cpu_count() or 1)
    cache = str(setting.folder / "cache")
    if setting.data is not None:
        root = str(pack.unpack(setting.data, setting.folder / "data"))
        module = PolypDataModule("kvasir", root, None, side, batch, workers, seed=0, cache_dir=cache)
    else:
        frames = 28 if setting.rehearse else 280
        module = PolypDataModule(
            "phantom", None, None, side, batch, workers, seed=0, cache_dir=cache, phantom_frames=frames
        )
    module.prepare_data()
    return module
