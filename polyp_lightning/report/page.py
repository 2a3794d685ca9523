"""The page of a report, and its files."""

import sys
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

import polyp_lightning
from polyp_lightning.common.files import write_beside
from polyp_lightning.report.budget_curve import curve_section
from polyp_lightning.report.document import Document, Link, Paragraph, Section
from polyp_lightning.report.html import to_html
from polyp_lightning.report.inputs import Curve, FitRun, Study, read_source
from polyp_lightning.report.markdown import to_markdown
from polyp_lightning.report.run_sections import run_sections
from polyp_lightning.report.study_sections import study_sections

LARGEST = 5_000_000
"""Bytes of a page that is still sent by mail."""

_SEED_PAPER = Link(
    "The seed of this work: Neural Network Pruning for Real-time Polyp Segmentation, MIUA 2023",
    "https://doi.org/10.1007/978-3-031-48593-0_22",
)


def build(folders: Sequence[Path], root: Path, *, frames: bool = True, named: Collection[str] = ()) -> Document:
    """Builds the report on some folders of `fit` or of studies, and files of curves, each given once.

    ``named`` are the networks of the user's own whose frames may be drawn; nothing else of a report needs them.

    Raises:
        PolypError: a folder holds no run or study, or something in it is damaged.
    """
    sources = [read_source(folder) for folder in folders]
    studies = [source for source in sources if isinstance(source, Study)]
    runs = [source for source in sources if isinstance(source, FitRun)]
    sections = study_sections(studies, root, frames=frames, named=named) if studies else []
    sections += curve_section([point for source in sources if isinstance(source, Curve) for point in source.points])
    if runs:
        found = run_sections(runs, root, frames=frames, named=named)
        sections += [Section(f"Runs: {one.title}", one.blocks) for one in found] if studies else found
    names = ", ".join(source.folder.resolve().name for source in sources)
    about = Section("About", [_SEED_PAPER, Paragraph("MACs are multiply-accumulates; GMACs are 10⁹ of them.")])
    made = f"Made by polyp_lightning {polyp_lightning.__version__} on {date.today():%Y-%m-%d}."
    return Document(f"Pruning polyp segmentation: {names}", [*sections, about], made)


def write_html(document: Document, path: Path) -> None:
    """Writes the page, which needs nothing else."""
    _write(to_html(document), path)


def write_markdown(document: Document, path: Path) -> None:
    """Writes the Markdown and, in ``<stem>-figures`` beside it, its pictures."""
    folder = path.with_name(f"{path.stem}-figures")
    for picture in document.pictures():
        with write_beside(folder / f"{picture.name}.{picture.suffix}") as beside:
            beside.write_bytes(picture.data)
    _write(to_markdown(document, folder.name), path)


def _write(text: str, path: Path) -> None:
    with write_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
    size = len(text.encode())
    print(f"wrote {path} ({size / 1e6:.2f} MB)")
    if size > LARGEST:
        advice = "--no_frames or fewer runs make it smaller"
        print(f"{path} is larger than {LARGEST / 1e6:.0f} MB; {advice}", file=sys.stderr)
