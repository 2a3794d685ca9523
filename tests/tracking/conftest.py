"""Fixtures of the tracking tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No W&B account of the person who runs the tests is seen or used."""
    import os

    import wandb

    # A service left running by earlier tests is named in the environment; it must not be "restored" when it is gone.
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    # The service keeps the environment that it was started in.
    wandb.teardown()
