"""The verbs about data on disk: ``data fetch`` and ``data verify``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.data.fetch import fetch_kvasir, refuse_clinicdb
from polyp_lightning.data.layouts import KVASIR_FOLDER
from polyp_lightning.data.verification import verify_kvasir


def main(args: Sequence[str]) -> int:
    """Runs a verb.

    Args:
        args: The command line behind ``data``, such as ``["verify", "kvasir", "--root", "datasets"]``.

    Returns:
        0, or 1 where the files differ from the official ones.

    Raises:
        PolypError: the data can't be had, or are not there.
    """
    options = _parser().parse_args(args[1:])
    root = Path(options.root)
    return _fetch(options.data_set, root) if options.verb == "fetch" else _verify(root)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("data", "Fetches and checks data sets.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="download a data set, or say how to get it", allow_abbrev=False)
    fetch.add_argument("data_set", choices=["kvasir", "clinicdb"], metavar="kvasir|clinicdb")
    verify = verbs.add_parser("verify", help="compare every file with the published hashes", allow_abbrev=False)
    verify.add_argument("data_set", choices=["kvasir"], metavar="kvasir")
    for verb in (fetch, verify):
        verb.add_argument(
            "--root",
            default=os.environ.get("POLYP_DATA") or "datasets",
            help="the folder of data sets (default: %(default)s)",
        )
    return parser


def _fetch(data_set: str, root: Path) -> int:
    if data_set == "clinicdb":
        refuse_clinicdb(root)
    home = fetch_kvasir(root)
    print(f"{home}: the official Kvasir-SEG, every file checked. For research and education; cite Jha et al. 2020.")
    print("CVC-ClinicDB has to be asked for: `python -m polyp_lightning data fetch clinicdb` says how.")
    return 0


def _verify(root: Path) -> int:
    found = verify_kvasir(root / KVASIR_FOLDER)
    print(f"{root / KVASIR_FOLDER}: {found}")
    return 0 if found.official else 1
