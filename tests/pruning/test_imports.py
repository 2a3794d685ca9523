"""Pruning is usable without Lightning: what importing all of it brings along."""

import json
import subprocess
import sys

_PROGRAM = """
import importlib, json, pkgutil, sys
import numpy, scipy.optimize, scipy.sparse.csgraph, scipy.spatial.distance, torch.utils._python_dispatch
import torch._subclasses.fake_tensor, torch.utils.flop_counter
before = {name.partition(".")[0] for name in sys.modules}
import polyp_lightning.pruning as pruning
for module in pkgutil.walk_packages(pruning.__path__, pruning.__name__ + "."):
    importlib.import_module(module.name)
after = {name.partition(".")[0] for name in sys.modules}
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("polyp_lightning.")}
print(json.dumps([sorted(after - before - set(sys.stdlib_module_names)), sorted(rooms)]))
"""


def test_pruning__needs_torch_numpy_scipy_and_common_only() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    packages, rooms = json.loads(done.stdout.splitlines()[-1])
    # PyTorch imports some of its own parts and packages only now.
    assert {name for name in packages if name[0] != "_"} - {"mpmath", "sympy"} == {"polyp_lightning"}
    assert rooms == ["common", "pruning"]
