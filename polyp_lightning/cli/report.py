"""The verb ``report``."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.report.page import build, write_html, write_markdown


def main(args: Sequence[str]) -> int:
    """Runs the verb.

    Args:
        args: the verb and its options.

    Returns:
        0.

    Raises:
        PolypError: a folder holds no run or study, or something in it is damaged.
    """
    options = _parser().parse_args(args[1:])
    if options.output.suffix.lower() not in (".html", ".htm"):
        msg = f"--output {options.output} is to be a page: name a file that ends in .html"
        raise ConfigError(msg)
    folders = list({folder.resolve(): folder for folder in options.runs}.values())
    document = build(folders, options.data_root, frames=not options.no_frames)
    write_html(document, options.output)
    if options.markdown:
        write_markdown(document, options.markdown)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("report", "Writes one page that needs nothing else, about runs of `fit` and studies.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders of `fit`, or of studies")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="the page (default: %(default)s)"
    )
    parser.add_argument("--markdown", type=Path, help="write the same as Markdown too, its pictures beside it")
    parser.add_argument("--no_frames", action="store_true", help="show no frames of the data sets (mind their terms)")
    parser.add_argument(
        "--data_root",
        type=Path,
        default=Path(os.environ.get("POLYP_DATA") or "datasets"),
        help="the folder of data sets, for the frames (default: %(default)s)",
    )
    return parser
