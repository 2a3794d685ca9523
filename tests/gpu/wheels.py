"""What has to travel to a machine that has PyTorch and Lightning but no network, and how it gets into ``.whl``.

``python tests/gpu/wheels.py`` downloads the wheels for Python 3.12 on x86-64 Linux, of the versions in the lock file.
There: ``python3 -m pip install --no-index --no-deps --target .whl/site .whl/*.whl && export PYTHONPATH=.whl/site``.
"""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

PACKAGES = {
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "albumentations": "albumentations",
    "jsonargparse": "jsonargparse",
    "ptflops": "ptflops",
    "pooch": "pooch",
    # What these need and PyTorch's and Lightning's friends don't bring.
    "albucore": "albucore",
    "stringzilla": "stringzilla",
    "simsimd": "simsimd",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
    "docstring-parser": "docstring_parser",
    "typeshed-client": "typeshed_client",
    "platformdirs": "platformdirs",
}
"""Packages by their names in the registry, with the names by which they are imported."""

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def missing() -> list[str]:
    """The packages that can't be imported here."""
    return [package for package, name in PACKAGES.items() if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def main() -> int:
    """Downloads them, of the versions that requirements.lock pins."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [found[0] for name in PACKAGES if (found := re.search(rf"^{name}==[\w.]+", lock, re.MULTILINE))]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    fixed = ["download", "--only-binary=:all:", "--no-deps", "--python-version", "3.12", "--implementation", "cp"]
    return subprocess.call([sys.executable, "-m", "pip", *fixed, *platforms, "-d", str(ROOT / ".whl"), *pins])


if __name__ == "__main__":
    raise SystemExit(main())
