"""Small data sets in every layout in which the real ones are distributed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_data import every_name, write_pairs

from polyp_lightning.data.datamodule import PolypDataModule


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ``folder`` data set of 12 JPEG images with PNG masks."""
    write_pairs(tmp_path / "set/images", tmp_path / "set/masks", [f"f{n:02d}" for n in range(12)], ".jpg", ".png")
    return tmp_path / "set"


CLINICDB_LAYOUTS = {
    "png": ("CVC-ClinicDB/PNG/Original", "CVC-ClinicDB/PNG/Ground Truth", ".png"),
    "tiff": ("CVC-ClinicDB/Original", "CVC-ClinicDB/Ground Truth", ".tif"),
    "flat": ("CVC-ClinicDB/images", "CVC-ClinicDB/masks", ".png"),
}


@pytest.fixture(scope="session", params=CLINICDB_LAYOUTS)
def clinicdb_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CVC-ClinicDB in each of its layouts."""
    root = tmp_path_factory.mktemp(f"clinicdb-{request.param}")
    images, masks, suffix = CLINICDB_LAYOUTS[request.param]
    write_pairs(root / images, root / masks, every_name("clinicdb-sequence"), suffix)
    return root


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., PolypDataModule]:
    """Makes a small data module that loads in the main process and caches below the test's folder."""

    def build(**options: Any) -> PolypDataModule:
        small: dict[str, Any] = {
            "image_size": 32,
            "batch_size": 4,
            "num_workers": 0,
            "cache_dir": str(tmp_path / "cache"),
            "phantom_frames": 14,
        }
        return PolypDataModule(**(small | options))

    return build
