"""What ``pyproject.toml`` asks for, and the program that installs it."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent


def read_extras() -> dict[str, list[str]]:
    """The modules that each extra brings by itself, by the names of its packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # All but one are imported by their package's name.
    return {
        extra: [
            re.split(r"[^\w-]", requirement)[0].replace("-", "_").replace("pyyaml", "yaml") for requirement in required
        ]
        for extra, required in project["optional-dependencies"].items()
    }


def modules_without(extra: str) -> list[str]:
    """The modules of all other extras."""
    others = {module for name, modules in read_extras().items() if name != extra for module in modules}
    return sorted(others - {"polyp_lightning"})


def load_installer() -> ModuleType:
    """Imports ``.ci/install.py``, anew each time."""
    spec = importlib.util.spec_from_file_location("installer", ROOT / ".ci" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
