"""Peak memory of a model in a process of its own."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from polyp_lightning.deploy.benchmark.candidates import Candidate, load_candidate

_SCRIPT = f"import sys; from {__name__} import print_peak; print_peak(sys.argv[1])"


def measure_peak(candidate: Candidate, threads: int) -> float | None:
    """Returns the most memory, in 10⁶ bytes, that a process needs which loads a candidate and runs it.

    Python, the runtime and the decoder's libraries included; on CUDA, the device's memory that PyTorch has handed out.
    None where the process fails or the system does not count it.
    """
    asked = json.dumps({**asdict(candidate), "model": str(candidate.model), "threads": threads})
    done = subprocess.run(  # noqa: S603 our own interpreter and module
        [sys.executable, "-c", _SCRIPT, asked], capture_output=True, text=True, check=False
    )
    last = done.stdout.strip().splitlines()[-1:]
    return float(last[0]) if done.returncode == 0 and last else None


def print_peak(asked: str) -> None:
    """Loads and runs what is asked for, and prints the peak of this process; runs in a process of its own."""
    facts = json.loads(asked)
    threads = facts.pop("threads")
    load_candidate(Candidate(**{**facts, "model": Path(facts["model"])}), threads)
    sys.stdout.write(f"{_cuda_peak() if facts['backend'].startswith('cuda') else _own_peak()}\n")


def _cuda_peak() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


def _own_peak() -> float:
    """Returns the peak of this process in 10⁶ bytes.

    From /proc where there is one: ``ru_maxrss`` starts with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / 1e6
    import resource

    # Bytes on a Mac.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
