"""The verb ``data``: ``data fetch`` and ``data verify``."""

import argparse
from collections.abc import Sequence

from polyp_lightning.cli.parsing import add_data_root, make_parser
from polyp_lightning.common.errors import DataError
from polyp_lightning.data.sets import DATASETS

_FETCH = {name: spec.fetch for name, spec in DATASETS.items() if spec.fetch}
_VERIFY = {name: spec.verify for name, spec in DATASETS.items() if spec.verify}


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`.

    Returns:
        0.

    Raises:
        DataError: files are missing, or differ from the official ones.
    """
    options = _make_parser().parse_args(arguments[1:])
    if options.verb == "fetch":
        print(_FETCH[options.data_set](options.data_root))
        return 0
    found = _VERIFY[options.data_set](options.data_root)
    if not found.official:
        msg = f"{found.folder} is not the official data set: {found}"
        raise DataError(msg)
    print(f"{found.folder}: {found}")
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("data", "Fetches and checks data sets.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="download a data set, or say how to get it")
    fetch.add_argument("data_set", choices=list(_FETCH), metavar="|".join(_FETCH))
    verify = verbs.add_parser("verify", help="compare every file with the published hashes")
    verify.add_argument("data_set", choices=list(_VERIFY), metavar="|".join(_VERIFY))
    for verb in (fetch, verify):
        add_data_root(verb)
    return parser
