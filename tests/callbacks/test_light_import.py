"""Pruning another project's module asks for none of the packages that this one has for polyps."""

import subprocess
import sys

SCRIPT = """
import sys
import {first}, numpy, scipy.sparse.csgraph
before = set(sys.modules)
from polyp_lightning.callbacks import TaylorFOPruning, load_from_checkpoint
TaylorFOPruning(0.5, 1, 2)
print(*sorted({{name.partition('.')[0] for name in set(sys.modules) - before}}))
"""


def imported(first: str) -> set[str]:
    """Packages beyond those that a line of imports brings by itself."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(first=first)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split()) - set(sys.stdlib_module_names)


def test_callbacks__import_torch_lightning_numpy_and_scipy_alone() -> None:
    allowed = {"polyp_lightning", "torch", "lightning", "numpy", "scipy"}
    assert {name for name in imported("lightning.pytorch") if not name.startswith("_")} <= allowed
