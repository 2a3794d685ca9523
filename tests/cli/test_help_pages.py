from contextlib import suppress

import pytest

from polyp_lightning.callbacks.schedule import Shape
from polyp_lightning.cli import main
from polyp_lightning.cli.help_pages import SHOWN, draw_pages
from polyp_lightning.cli.short_help import PAGES
from polyp_lightning.cli.verbs import VERBS, usage
from polyp_lightning.data.sets import DATASETS
from polyp_lightning.networks.losses import LOSSES
from polyp_lightning.pruning.criteria import CRITERIA


def fits(text: str) -> bool:
    lines = text.rstrip("\n").split("\n")
    return len(lines) <= 40 and max(map(len, lines)) <= 80


def printed_help(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``--help`` prints; verbs without a page leave it to their parser, which ends the process."""
    with suppress(SystemExit):
        assert main([verb, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help__of_every_verb_fits_a_screen(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed_help(verb, capsys)
    assert f"python -m polyp_lightning {verb}" in text
    assert fits(text)


def test_usage__fits_a_screen_and_names_every_verb() -> None:
    assert fits(usage())
    assert [line.split()[0] for line in usage().splitlines()[2:]] == list(VERBS)


def test_pages__are_what_the_parsers_say() -> None:
    stored = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.iterdir()}
    assert stored == draw_pages(), "write them anew: python -m polyp_lightning.cli.help_pages"


@pytest.mark.parametrize("verb", SHOWN)
def test_help__page_shows_its_options_and_how_to_see_all(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed_help(verb, capsys)
    named = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert named == list(SHOWN[verb])
    assert f"{verb} --help_all" in text


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_help__names_what_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    text = one_line(printed_help("fit", capsys))
    for names in ((*DATASETS, "mix"), LOSSES, CRITERIA, Shape.__args__):  # type: ignore[attr-defined]
        assert f" {', '.join(names)} (" in text
    # A checkpoint's settings go ahead of the parser's defaults.
    assert f" {', '.join((*DATASETS, 'mix'))} (the checkpoint's)" in one_line(printed_help("test", capsys))


def test_help_all__is_the_whole_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prune", "--help_all"])
    assert stopped.value.code == 0
    assert "--limits.protected" in capsys.readouterr().out
