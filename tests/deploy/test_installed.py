"""The released wheel in an empty environment, away from the repository; ``make release-check`` runs it on ``dist/``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from extras import ROOT, load_installer, modules_without
from small_models import Exported

from polyp_lightning.data.sets.phantom import draw_frame

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UV = str(Path(sys.executable).with_name("uv"))
_OUT_OF_REACH = re.compile(r"failed to fetch|error sending request|dns error|timed out|unreachable", re.IGNORECASE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in ``$RELEASE``; else one that is made here, by way of the source archive."""
    made = os.environ.get("RELEASE")
    folder = Path(made) if made else tmp_path_factory.mktemp("dist")
    if not made:
        options = ["--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
        subprocess.run([UV, "build", *options, str(ROOT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


def install(wheel: Path, extra: str, folder: Path) -> Path:
    """Makes an environment that holds the package with an extra; returns its script."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    done = subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, f"polyp-lightning[{extra}] @ {wheel.as_uri()}"],
        env=load_installer().translate(listed.stdout, os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and _OUT_OF_REACH.search(done.stderr):
        pytest.skip(f"no package index can be reached: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "polyp-lightning"


@pytest.fixture(scope="module")
def runtime(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, "runtime", tmp_path_factory.mktemp("runtime"))


def run(*command: str | Path, where: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, where nothing of the repository can be imported."""
    around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=where, env=around, capture_output=True, text=True, check=False)


def test_runtime__its_verbs_run_and_others_name_their_extra(runtime: Path, exported: Exported, tmp_path: Path) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        Image.fromarray(draw_frame(0, index)[0]).save(frames / f"{index}.png")
    program = ROOT / "tests" / "support" / "runtime_verbs.py"
    done = run(runtime.with_name("python"), program, exported("onnx"), frames, tmp_path, "", where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pip install 'polyp-lightning[train]'") == 2
    assert not set(done.stdout.rpartition("MODULES")[2].split()) & set(modules_without("runtime"))


def test_wheel__holds_what_is_not_python(runtime: Path, tmp_path: Path) -> None:
    program = (
        "from polyp_lightning.cli.shipped_configs import CONFIGS; from polyp_lightning.data.sets import DATASETS;"
        "from polyp_lightning.data.splitting import shipped_list; import polyp_lightning.report as report;"
        "from pathlib import Path; print(len(shipped_list('kvasir-880-120-train')));"
        "print((Path(report.__file__).parent / 'page.html.j2').is_file(), *sorted(p.stem for p in CONFIGS.iterdir()))"
    )
    done = run(runtime.with_name("python"), "-c", program, where=tmp_path)
    assert done.returncode == 0, done.stderr
    count, rest = done.stdout.splitlines()
    assert int(count) > 700
    assert rest.split() == ["True", *sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))]
    assert run(runtime, "fit", "--help", where=tmp_path).stdout.startswith("usage: ")
    assert "Did you mean kvasir?" in run(runtime, "fit", "--config", "kvasr", where=tmp_path).stderr


@pytest.mark.skipif(not os.environ.get("FULL"), reason="installs gigabytes: make release-check FULL=1")
def test_wheel__trains_with_a_configuration_by_name(wheel: Path, tmp_path: Path) -> None:
    script = install(wheel, "train", tmp_path / "venv")
    short = ["--data.phantom_frames", "28", "--trainer.max_epochs", "1", "--pruning.target", "1"]
    options = [*short, "--trainer.logger", "false", "--trainer.default_root_dir", "run"]
    done = run(script, "fit", "--config", "quickstart", *options, where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert run(script, "report", "run", "-o", "report.html", where=tmp_path).returncode == 0
