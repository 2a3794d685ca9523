"""A report as one HTML page: everything is inside, nothing is fetched, no script runs."""

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyp_lightning.report.document import Commands, Document, Link, Paragraph, Picture, Points, Table

_TYPES = {"svg": "image/svg+xml", "jpg": "image/jpeg"}


def to_html(document: Document) -> str:
    """Writes the page as text. All text of the document is escaped; pictures become data addresses."""
    pages = Environment(loader=PackageLoader("polyp_lightning.report", ""), autoescape=True, undefined=StrictUndefined)
    for kind in (Paragraph, Points, Table, Picture, Commands, Link):
        # Bound as a default: a closure would see the last kind only.
        pages.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    pages.filters["address"] = _address
    return pages.get_template("page.html.j2").render(document=document)


def _address(picture: Picture) -> str:
    return f"data:{_TYPES[picture.suffix]};base64,{base64.b64encode(picture.data).decode()}"
