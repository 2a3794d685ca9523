"""Checkpoints and exported models that the tests of deployment share; each is made once."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_models import CleanModules, Exported, cut, lively_net, save_checkpoint

from polyp_lightning.deploy.export import ExportOptions, export
from polyp_lightning.deploy.formats import FORMATS


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned network's checkpoint: small, so that exports are quick."""
    return save_checkpoint(cut(lively_net(), 0.1), tmp_path_factory.mktemp("checkpoints") / "small.ckpt")


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("exported")

    def get(kind: str, int8: bool = False) -> Path:
        key = f"{kind}{'-int8' * int8}"
        if key not in made:
            target = folder / f"{key}{FORMATS[kind].suffix}"
            made[key] = export(ExportOptions(checkpoint, kind, int8=int8, output=target), lambda _: None).path
        return made[key]

    return get


@pytest.fixture(scope="session")
def clean_modules() -> CleanModules:
    def run(line: str) -> set[str]:
        code = f"{line}\nimport sys; print('MODULES', ' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.rpartition("MODULES")[2].split())

    return run
