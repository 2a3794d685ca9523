"""Peak memory of a model in a process of its own."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

_SCRIPT = "import sys; from polyp_lightning.deploy.peak import report; report(sys.argv[1])"


def peak_memory(candidate: Any, threads: int) -> float | None:
    """The most memory that a process needs which loads a candidate and runs it, in 10⁶ bytes.

    Python, the runtime and the decoder's libraries included; on CUDA, the device's memory that PyTorch has handed out.
    None where the process fails or the system does not count it.
    """
    asked = json.dumps({**asdict(candidate), "model": str(candidate.model), "threads": threads})
    done = subprocess.run(  # noqa: S603 our own interpreter and module
        [sys.executable, "-c", _SCRIPT, asked], capture_output=True, text=True, check=False
    )
    last = done.stdout.strip().splitlines()[-1:]
    return float(last[0]) if done.returncode == 0 and last else None


def report(asked: str) -> None:
    """Loads and runs what is asked for, and prints the peak of this process; runs in a process of its own."""
    from polyp_lightning.deploy.benchmark import Candidate, load_candidate

    facts = json.loads(asked)
    threads = facts.pop("threads")
    load_candidate(Candidate(**{**facts, "model": Path(facts["model"])}), threads)
    if facts["backend"].startswith("cuda"):
        import torch

        sys.stdout.write(f"{torch.cuda.max_memory_allocated() / 1e6}\n")
        return
    sys.stdout.write(f"{_own_peak()}\n")


def _own_peak() -> float:
    """The peak of this process in 10⁶ bytes.

    From /proc where there is one: ``ru_maxrss`` starts with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / 1e6
    import resource

    # Bytes on a Mac.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
