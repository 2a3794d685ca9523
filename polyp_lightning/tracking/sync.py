"""Uploading the W&B runs that were kept offline: ``make wandb-sync``."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.tracking.logger import logged_in

_DONE = ".synced"


def find_offline_runs(folder: Path) -> list[Path]:
    """Finds the offline W&B runs below a folder that have not been uploaded, the oldest first."""
    found = {path.parent for path in folder.rglob("offline-run-*/run-*.wandb")}
    waiting = [run for run in found if not any(run.glob(f"*.wandb{_DONE}"))]
    return sorted(waiting, key=lambda run: run.name)


def main(args: Sequence[str] | None = None) -> int:
    """Uploads them with `wandb sync`; returns 1 where an upload failed, 2 without a login, else 0."""
    parser = argparse.ArgumentParser(prog="wandb-sync", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="of runs (default: %(default)s)")
    folder = parser.parse_args(args).folder
    runs = find_offline_runs(folder)
    if not runs:
        print(f"No offline W&B run below {folder}/ waits to be uploaded.")
        return 0
    if not logged_in():
        sys.stderr.write(
            f"error: {len(runs)} offline runs below {folder}/ can't be uploaded without an account: run `wandb login` "
            "or set WANDB_API_KEY\n"
        )
        return 2
    failed: list[Path] = []
    for run in runs:
        # Pieces of one run, which share its id, go up in their order or not at all.
        if any(_run_id(run) == _run_id(other) for other in failed) or _upload(run):
            failed.append(run)
    print(f"{len(runs) - len(failed)} of {len(runs)} runs uploaded.")
    return 1 if failed else 0


def _run_id(run: Path) -> str:
    """The id at the end of ``offline-run-DATE_TIME-ID``."""
    return run.name.split("-", 3)[-1]


def _upload(run: Path) -> int:
    # From the folder that holds wandb/, whose settings name the service.
    command = [sys.executable, "-m", "wandb", "sync", str(run.resolve())]
    return subprocess.run(command, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    raise SystemExit(main())
