"""The manner that all verbs share, read from the table of verbs."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from polyp_lightning.cli import main
from polyp_lightning.cli.verbs import VERBS


def needed(verb: str) -> Iterator[list[str]]:
    """A verb's needed options, for each of the ways to call it."""
    if VERBS[verb].module in ("fit", "predict"):
        # A checkpoint is read before the other options are.
        yield []
        return
    for way in VERBS[verb].options.strip("[]").split(" | "):
        yield shlex.split(way.replace("…", ""))


CALLS = [
    pytest.param([verb, *options], id=" ".join([verb, *options[:1]])) for verb in VERBS for options in needed(verb)
]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error: "))
    return line


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_verb__unknown_option_is_explained(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nonsense is no option" in complaint(capsys, *call, "--nonsense=1")


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_verb__shortened_option_is_refused(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    whole = option_of(call, capsys)
    line = complaint(capsys, *call, f"{whole[:-1]}=1")
    assert f"{whole[:-1]} is no option. Did you mean --" in line


def option_of(call: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last option of the call's help, other than the help itself."""
    below = call[:2] if len(call) > 1 and not call[1].startswith("-") and call[0] == "data" else call[:1]
    with suppress(SystemExit):
        main([*below, "--help"])
    names = re.findall(r"^ +(?:-\w \w+, )?(--\w[\w.]+)", capsys.readouterr().out, re.MULTILINE)
    return str(names[-1])


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].options and "[" not in VERBS[verb].options])
def test_every_verb__missing_option_is_explained(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"required|needs a trained network", complaint(capsys, verb))


def test_main__unknown_verb_names_the_nearest_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    line = complaint(capsys, "taylor_check")
    assert "'taylor_check'" in line
    assert "Did you mean taylor-check?" in line
    assert line.endswith(f"All verbs: {', '.join(VERBS)}")


def test_main__status_of_the_process() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "polyp_lightning", "ftt"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: ")
