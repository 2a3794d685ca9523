"""The verbs about data on disk: ``data fetch`` and ``data verify``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.data.sets import DATASETS

_FETCH = {name: spec.fetch for name, spec in DATASETS.items() if spec.fetch}
_VERIFY = {name: spec.verify for name, spec in DATASETS.items() if spec.verify}


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
    if options.verb == "fetch":
        print(_FETCH[options.data_set](root))
        return 0
    found = _VERIFY[options.data_set](root)
    print(f"{found.folder}: {found}")
    return 0 if found.official else 1


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("data", "Fetches and checks data sets.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="download a data set, or say how to get it", allow_abbrev=False)
    fetch.add_argument("data_set", choices=list(_FETCH), metavar="|".join(_FETCH))
    verify = verbs.add_parser("verify", help="compare every file with the published hashes", allow_abbrev=False)
    verify.add_argument("data_set", choices=list(_VERIFY), metavar="|".join(_VERIFY))
    for verb in (fetch, verify):
        verb.add_argument(
            "--root",
            default=os.environ.get("POLYP_DATA") or "datasets",
            help="the folder of data sets (default: %(default)s)",
        )
    return parser
