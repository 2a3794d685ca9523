"""The package's docstring is the map of its rooms."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import polyp_lightning

PACKAGE = Path(polyp_lightning.__file__).parent
ROOMS = re.findall(r"^- ``(\w+)``: \S.*\.$", str(polyp_lightning.__doc__), re.MULTILINE)


def test_map__names_every_room_once() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert sorted(ROOMS) == sorted(folders)


def test_map__is_in_the_order_of_the_layers() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "rooms")
    assert [room for layer in contract["layers"] for room in layer.split(" | ")] == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_map__each_room_says_what_it_is(room: str) -> None:
    # Read without importing: some rooms take seconds.
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    assert text
    assert text.splitlines()[0].endswith((".", ":"))
