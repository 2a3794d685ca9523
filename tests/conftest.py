"""Fixtures that several rooms' tests use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_data import every_name, write_pairs


@pytest.fixture(autouse=True)
def _no_determinism_left() -> Iterator[None]:
    """A trainer that asks for deterministic algorithms sets them for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with caches of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets."""
    root = os.environ.get("POLYP_DATA")
    if not root or not (Path(root) / "Kvasir-SEG").is_dir():
        pytest.skip("set POLYP_DATA to the folder that holds Kvasir-SEG/ and CVC-ClinicDB/ to run this test")
    return Path(root)


@pytest.fixture(scope="session")
def kvasir_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kvasir-SEG's layout and names with other pixels."""
    root = tmp_path_factory.mktemp("kvasir")
    home = root / "Kvasir-SEG"
    write_pairs(home / "images", home / "masks", every_name("kvasir-880-120"), ".jpg")
    (home / "kavsir_bboxes.json").write_text("{}")
    return root
