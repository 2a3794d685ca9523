"""The description that a package index shows."""

import re

import pytest
from extras import ROOT, load_program

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = "![curve](configs/a.png) [list](CITATION.cff) [paper](https://doi.org/1) [below](#real-time)"


def test_describe__links_lead_to_the_repository() -> None:
    assert load_program("setup").describe(TEXT, "https://example.org/me/polyps") == (
        "![curve](https://example.org/me/polyps/raw/HEAD/configs/a.png) "
        "[list](https://example.org/me/polyps/blob/HEAD/CITATION.cff) [paper](https://doi.org/1) [below](#real-time)"
    )


def test_describe__without_an_address_no_link_is_dead() -> None:
    setup = load_program("setup")
    assert setup.describe(TEXT, "") == "curve list [paper](https://doi.org/1) [below](#real-time)"
    assert set(re.findall(r"\]\((?!#)(\w+):", setup.describe(README, ""))) == {"https"}
    assert not re.search(r"\]\((?!#|https:)", setup.describe(README, ""))


def test_readme__every_file_that_it_links_to_is_there() -> None:
    paths = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("repository-code: https://example.org/a", "https://example.org/a"),
        ('repository-code: "https://example.org/a/"', "https://example.org/a"),
        ("title: polyps", ""),
    ],
)
def test_find_address__is_the_citations(line: str, address: str) -> None:
    assert load_program("setup").find_address(f"cff-version: 1.2.0\n{line}\nlicense: MIT\n") == address
