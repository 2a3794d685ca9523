"""Everything that has to be right and fast on a GPU, in one run: ``make gpu``, rehearsed by ``make gpu REHEARSE=1``.

Parts run in the order of their value, each for so many seconds at most. Every result is printed and written at once
(``results.txt``, ``results.csv``), the page of results (``results.md``) after each part. A part is skipped, and says
so, if a package that it needs is not installed. After an error of the device the script starts itself again behind the
part that met it, since nothing runs on such a device any more.

A machine without a network needs what ``make gpu-wheels`` downloads into ``.whl`` (see ``wheels.py``) and, for the part
on real data, the archive that ``pack.py`` writes: together below 64 MiB. An encoder's weights, where they fit as well,
are named by $GPU_WEIGHTS.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

# Before CUDA starts: deterministic matrix products need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# The profiler reports each start and stop on standard error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
if "--rehearse" in sys.argv:
    # Tiny networks gain nothing from threads, and lose much where the cores have other work.
    os.environ["OMP_NUM_THREADS"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
sys.path.append(str(HERE.parent / "bench"))

PARTS = {
    "cuts": ("trace and cut", 40),
    "changes": ("TaylorFO", 40),
    "fits": ("fits", 100),
    "resumed": ("resume", 90),
    "memory_kept": ("memory", 15),
    "waiting": ("waits", 25),
    "speed": ("speed", 100),
    "feeding": ("loader", 40),
    "latency": ("latency", 90),
    "cells": ("study", 400),
}
"""By module: what it is called in the table, and the most seconds that it may take."""

PATIENCE = 20
"""How much longer a rehearsal may take: it is to run every line, however busy the processor is."""


def main() -> int:
    """Runs the parts; returns 1 if a check failed."""
    options = _parse()
    start = time.monotonic()
    import torch
    from results import Results
    from setting import Setting

    _quieten()
    if not options.rehearse and not torch.cuda.is_available():
        print("PyTorch finds no CUDA device here; REHEARSE=1 runs the same on the CPU with tiny sizes")
        return 2
    device = torch.device("cpu" if options.rehearse else "cuda")
    with tempfile.TemporaryDirectory() as scratch:
        if options.victim:
            setting = Setting(device, options.rehearse, Path(os.environ["GPU_SCRATCH"]), None, None)  # type: ignore[arg-type]
            import_module("resumed").train(setting, options.victim, die=True)
            return 0
        os.environ["GPU_SCRATCH"] = scratch
        results = Results(options.out, _machine(options.rehearse))
        setting = Setting(device, options.rehearse, Path(scratch), results, options.data)
        for name in (name for name in options.parts if name not in options.done):
            left = options.seconds * (PATIENCE if options.rehearse else 1) - (time.monotonic() - start)
            _run(setting, name, left)
            page = results.write_page()
            options.done.append(name)
            if _is_broken(setting):
                _start_again(options, left)
    print(f"{page}: {len(results.rows)} rows, {results.failed} failed, {time.monotonic() - start:.0f} s")
    return min(results.failed, 1)


def _run(setting, name: str, left: float) -> None:  # noqa: ANN001
    """Runs one part; what goes wrong in it becomes a row."""
    results, (results.part, most) = setting.results, PARTS[name]
    if left < 5:
        results.skip("the whole part", "no time left")
        return
    seconds = min(most * (PATIENCE if setting.rehearse else 1), left)
    setting.deadline = time.monotonic() + seconds
    try:
        with _at_most(seconds):
            import_module(name).run(setting)
    except Exception as error:
        _explain(setting, error, seconds)


def _explain(setting, error: Exception, seconds: float) -> None:  # noqa: ANN001
    from wheels import missing

    results = setting.results
    if setting.rehearse:
        # Nothing may be missing, and the time is ample.
        _fail(results, error)
    # Libraries wrap what is raised inside them.
    elif time.monotonic() >= setting.deadline:
        results.skip("the rest of the part", f"its {seconds:.0f} s are over")
    elif isinstance(error, ImportError):
        results.skip("the whole part", f"{error}; not installed: {', '.join(missing()) or 'nothing of ours'}")
    else:
        _fail(results, error)


def _fail(results, error: Exception) -> None:  # noqa: ANN001
    traceback.print_exception(error)
    results.row("the part ran to its end", "yes", f"{type(error).__name__}: {error}"[:300], False)


def _quieten() -> None:
    """Remarks on devices and on loaders without workers would hide the rows."""
    with suppress(ImportError):
        # It sets its own level when it is imported.
        import_module("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after so many seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_broken(setting) -> bool:  # noqa: ANN001
    """Whether the device answers no more."""
    try:
        setting.wait()
    except RuntimeError:
        return True
    return False


def _start_again(options: argparse.Namespace, left: float) -> None:
    given = ["--out", str(options.out), "--seconds", str(left), "--done", *options.done, "--parts", *options.parts]
    data = ["--data", str(options.data)] if options.data else []
    os.execv(sys.executable, [sys.executable, __file__, *given, *data])  # noqa: S606


def _machine(rehearse: bool) -> str:
    import lightning
    import torch

    device = "rehearsal on the CPU" if rehearse else torch.cuda.get_device_name()
    return f"{device}; torch {torch.__version__}, lightning {lightning.__version__}, Python {sys.version.split()[0]}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Checks and measures everything on a GPU.")
    parser.add_argument("--rehearse", action="store_true", help="the same on the CPU with tiny sizes")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the tables")
    parser.add_argument("--data", type=Path, help="archive of pack.py; without it, drawn frames")
    parser.add_argument("--seconds", type=float, default=470, help="for everything")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="in this order")
    parser.add_argument("--done", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
