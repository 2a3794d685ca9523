"""Several processes validate each frame once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.datamodule import PolypDataModule


def names(folder: Path, rank: int, processes: int) -> list[str]:
    data: Any = PolypDataModule(phantom_frames=35, image_size=32, batch_size=2, num_workers=0, cache_dir=str(folder))
    data.trainer = SimpleNamespace(world_size=processes, global_rank=rank)
    return [name for batch in data.val_dataloader() for name in batch["name"]]


def test_val_dataloader__processes_share_the_frames_without_repeating_any(tmp_path: Path) -> None:
    whole = names(tmp_path, 0, 1)
    assert len(whole) == 5, "an odd number: Lightning's own sampler repeats one for two processes"
    shares = [names(tmp_path, rank, 2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [3, 2]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


def test_val_dataloader__refuses_more_processes_than_frames(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 processes share 5 validation images; lower --trainer.devices"):
        names(tmp_path, 0, 6)
