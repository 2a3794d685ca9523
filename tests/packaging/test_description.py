"""The description that a package index shows."""

import re
import subprocess
import sys

import pytest
from extras import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def description() -> str:
    program = [sys.executable, "-m", "hatch_fancy_pypi_readme"]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True).stdout


def test_description__no_link_is_dead(description: str) -> None:
    assert re.findall(r"\]\((?!#|https://)", description) == []
    for text in ("\nValidation Dice against GMACs on phantoms\n", "\nCITATION.cff, and", "\nconfigs lists the other"):
        assert text in description


def test_description__other_links_stay(description: str) -> None:
    live = r"!?\[[^\]]*\]\((?:#|https://)[^)]*\)"
    assert re.findall(live, description) == re.findall(live, README) != []


CARD = "polyp_lightning/checkpoints/nets/README.md"
# A build without networks has no card.
PAGES = ["README.md", "configs/README.md", *([CARD] if (ROOT / CARD).exists() else [])]


@pytest.mark.parametrize("page", PAGES)
def test_readme__every_file_and_heading_that_it_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text)
    assert links
    for path, heading in links:
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), path
        if heading:
            assert heading in name_headings(file.read_text(encoding="utf-8")), f"{path}#{heading}"


def name_headings(text: str) -> list[str]:
    """The headings as links name them: lower case, spaces as hyphens, without punctuation."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles]
