"""Fixtures that several rooms' tests use."""

import os
from pathlib import Path

import pytest


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
