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
    for text in ("\nValidation Dice against GMACs on phantoms\n", "\nCITATION.cff, and", "| quickstart.yaml |"):
        assert text in description


def test_description__other_links_stay(description: str) -> None:
    live = r"!?\[[^\]]*\]\((?:#|https://)[^)]*\)"
    assert re.findall(live, description) == re.findall(live, README) != []


def test_readme__every_file_that_it_links_to_is_there() -> None:
    paths = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
