"""A release's description and addresses; everything else is in pyproject.toml.

A package index shows README.md away from the files that it links to. Their address is `repository-code` of
CITATION.cff, where that is known; without it, pictures and links give way to their texts.
"""

import re
from pathlib import Path

from setuptools import setup

_HERE = Path(__file__).parent
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def describe(readme: str, address: str) -> str:
    """Returns README.md for a package index."""

    def replace(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        return f"{picture}[{text}]({address}/{'raw' if picture else 'blob'}/HEAD/{path})" if address else text

    return _RELATIVE.sub(replace, readme)


def find_address(citation: str) -> str:
    """Returns the repository's address, empty where there is none."""
    found = re.search(r"^repository-code: *[\"']?([^\s\"']+?)/?[\"']?$", citation, re.MULTILINE)
    return found[1] if found else ""


if __name__ == "__main__":
    address = find_address((_HERE / "CITATION.cff").read_text(encoding="utf-8"))
    setup(
        long_description=describe((_HERE / "README.md").read_text(encoding="utf-8"), address),
        long_description_content_type="text/markdown",
        project_urls={"Repository": address, "Issues": f"{address}/issues"} if address else {},
    )
