"""Runs the verbs that the extra ``runtime`` is for, in a process in which other packages can't be imported.

A program: ``python runtime_verbs.py MODEL FRAMES OUT PACKAGES``, with the packages that are refused, by commas. Prints
those that were imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Refuse(MetaPathFinder):
    """Answers for some packages as if they were not installed."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = set(packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._packages:
            msg = f"No module named {fullname!r}"
            raise ModuleNotFoundError(msg, name=fullname)
        return None


def run(model: str, frames: str, out: str) -> None:
    from polyp_lightning.cli import main

    assert main(["predict", "--model", model, "--source", frames, "--output", f"{out}/masks", "--overlay"]) == 0
    assert main(["stream", "--model", model, "--source", frames, "--save", f"{out}/video.mp4"]) == 0
    table = ["--output", f"{out}/table", "--rounds", "1", "--frames", "2"]
    assert main(["benchmark", "--model", model, *table]) == 0
    # A verb of another extra says how to get it.
    assert main(["fit"]) == 2
    assert main(["benchmark", "--model", f"{out}/no.ckpt", "--no_memory"]) == 2


if __name__ == "__main__":
    sys.meta_path.insert(0, Refuse(sys.argv[4].split(",")))
    run(*sys.argv[1:4])
    print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
