import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyp_lightning.common.invocation import command


def test_command__names_what_ran_and_runs_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path("polyp_lightning") / "__main__.py")])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    printed = command("data", "--help")
    assert shlex.split(printed) == [sys.executable, "-m", "polyp_lightning", "data", "--help"]
    done = subprocess.run(printed, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S602
    assert "polyp_lightning data" in done.stdout


def test_command__the_script_and_what_the_shell_finds_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "a b" / "polyp-lightning"
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command("fit") == f"'{script}' fit"
    monkeypatch.setattr(shutil, "which", lambda _: str(script))
    assert command("fit", tmp_path / "c d") == f"polyp-lightning fit '{tmp_path}/c d'"
    # Another one of the same name is not the same.
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert command("fit") == f"'{script}' fit"
