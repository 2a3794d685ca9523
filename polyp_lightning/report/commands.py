"""The verb ``report``."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polyp_lightning
from polyp_lightning.errors import ConfigError
from polyp_lightning.files import written_beside
from polyp_lightning.report.document import Document, Link, Paragraph, Section
from polyp_lightning.report.html import to_html
from polyp_lightning.report.markdown import to_markdown
from polyp_lightning.report.run_sections import run_sections
from polyp_lightning.report.sources import FitRun, Study, read_source
from polyp_lightning.report.study_sections import study_sections

LARGEST = 5_000_000
"""Bytes of a page that is still sent by mail."""

_SEED_PAPER = Link(
    "The seed of this work: Neural Network Pruning for Real-time Polyp Segmentation, MIUA 2023",
    "https://doi.org/10.1007/978-3-031-48593-0_22",
)


def main(args: Sequence[str]) -> int:
    """Runs the verb.

    Args:
        args: its options.

    Returns:
        0.

    Raises:
        PolypError: a folder holds no run or study, or something in it is damaged.
    """
    options = _parser().parse_args(list(args))
    if options.output.suffix.lower() not in (".html", ".htm"):
        msg = f"--output {options.output} is to be a page: name a file that ends in .html"
        raise ConfigError(msg)
    folders = list({folder.resolve(): folder for folder in options.runs}.values())
    document = build(folders, options.data_root, frames=not options.no_frames)
    _write(to_html(document), options.output)
    if options.markdown:
        write_markdown(document, options.markdown)
    return 0


def build(folders: Sequence[Path], root: Path, *, frames: bool = True) -> Document:
    """The report on some folders.

    Args:
        folders: of `fit` or of studies, each once.
        root: the folder of data sets, from which frames are shown.
        frames: whether any are.

    Raises:
        PolypError: a folder holds no run or study, or something in it is damaged.
    """
    sources = [read_source(folder) for folder in folders]
    studies = [source for source in sources if isinstance(source, Study)]
    runs = [source for source in sources if isinstance(source, FitRun)]
    sections = study_sections(studies, root, frames=frames) if studies else []
    if runs:
        found = run_sections(runs, root, frames=frames)
        sections += [Section(f"Runs: {one.title}", one.blocks) for one in found] if studies else found
    names = ", ".join(source.folder.resolve().name for source in sources)
    about = Section("About", [_SEED_PAPER, Paragraph("MACs are multiply-accumulates; GMACs are 10⁹ of them.")])
    made = f"Made by polyp_lightning {polyp_lightning.__version__} on {date.today():%Y-%m-%d}."
    return Document(f"Pruning polyp segmentation: {names}", [*sections, about], made)


def write_markdown(document: Document, path: Path) -> None:
    """The Markdown and, in ``<stem>-figures`` beside it, its pictures."""
    folder = path.with_name(f"{path.stem}-figures")
    for picture in document.pictures():
        with written_beside(folder / f"{picture.name}.{picture.suffix}") as beside:
            beside.write_bytes(picture.data)
    _write(to_markdown(document, folder.name), path)


def _write(text: str, path: Path) -> None:
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
    size = len(text.encode())
    print(f"wrote {path} ({size / 1e6:.2f} MB)")
    if size > LARGEST:
        advice = "--no_frames or fewer runs make it smaller"
        print(f"{path} is larger than {LARGEST / 1e6:.0f} MB; {advice}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m polyp_lightning report",
        description="Writes one page that needs nothing else, about runs of `fit` and studies.",
        allow_abbrev=False,
    )
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
