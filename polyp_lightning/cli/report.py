"""The verb ``report``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import add_arch, add_data_root, make_parser
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.report.curve_files import write_curve_files
from polyp_lightning.report.inputs import FitRun, read_source
from polyp_lightning.report.page import build, write_html, write_markdown
from polyp_lightning.report.scores import check_suffix, collect_scores, show_scores, write_scores
from polyp_lightning.tracking.curve_chart import log_curve


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`."""
    options = _make_parser().parse_args(arguments[1:])
    if options.output.suffix.lower() not in (".html", ".htm"):
        msg = f"--output {options.output} is to be a page: name a file that ends in .html"
        raise ConfigError(msg)
    folders = list({folder.resolve(): folder for folder in options.runs}.values())
    for path in options.scores:
        check_suffix(path)
    document = build(folders, options.data_root, frames=not options.no_frames, named=options.arch or ())
    write_html(document, options.output)
    if options.markdown:
        write_markdown(document, options.markdown)
    if options.scores:
        rows = collect_scores([run for run in map(read_source, folders) if isinstance(run, FitRun)])
        show_scores(rows)
        for path in options.scores:
            write_scores(rows, path)
            print(f"wrote {path}")
    if options.curve:
        write_curve_files(folders, options.curve)
    if options.curve and options.wandb_project:
        log_curve(options.curve.with_suffix(".csv"), options.wandb_project)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("report", "Writes one page that needs nothing else, about runs of `fit` and studies.")
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="folders of `fit`, or of studies, or the CSV of a curve"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="the page (default: %(default)s)"
    )
    parser.add_argument("--markdown", type=Path, help="write the same as Markdown too, its pictures beside it")
    parser.add_argument(
        "--scores",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.csv|FILE.tex",
        help="write the test scores of the runs too, mean ± deviation over seeds (may be given twice)",
    )
    parser.add_argument("--curve", type=Path, metavar="STEM", help="write Dice against MACs as STEM.csv and STEM.png")
    parser.add_argument("--wandb_project", metavar="P", help="log --curve as charts of a W&B run of this project")
    parser.add_argument("--no_frames", action="store_true", help="show no frames of the data sets (mind their terms)")
    add_arch(parser, action="append")
    add_data_root(parser, ", for the frames")
    return parser
