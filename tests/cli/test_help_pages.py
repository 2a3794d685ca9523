from typing import Any

import pytest

from polyp_lightning.cli import main
from polyp_lightning.cli.ckpt_path import flatten
from polyp_lightning.cli.short_help import VERBS, flags, short_help
from polyp_lightning.cli.verbs import usage
from polyp_lightning.data.sets import DATASETS


def fits(text: str) -> bool:
    lines = text.rstrip("\n").split("\n")
    return len(lines) <= 40 and max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_short_help__fits_a_screen_and_names_the_whole_list(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed == short_help(verb)
    assert fits(printed)
    assert f"{verb} --help_all" in printed


@pytest.mark.parametrize("verb", ["export", "benchmark", "stream", "report", "dashboard", "data", "study"])
def test_help__of_the_other_verbs_fits_a_screen(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert fits(capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_short_help__names_every_data_set(verb: str) -> None:
    assert all(name in short_help(verb) for name in DATASETS)


def test_usage__fits_a_screen() -> None:
    assert fits(usage())


def defaults(verb: str) -> dict[str, Any]:
    """The real ones, by name of the option."""
    if verb == "prune":
        from jsonargparse import ArgumentParser

        from polyp_lightning.cli.prune import prune

        parser = ArgumentParser()
        parser.add_function_arguments(prune)
        return flatten(parser.get_defaults().as_dict())
    from polyp_lightning.cli import fit as training_cli

    seen: list[dict[str, Any]] = []

    class Asked(training_cli.PolypCLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            seen.append(flatten(self._subcommand_parsers[verb].get_defaults().as_dict()))
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_cli, "PolypCLI", Asked)
        with pytest.raises(KeyboardInterrupt):
            training_cli.main([verb])
    return seen[0]


@pytest.mark.parametrize("verb", VERBS)
def test_flags__exist_and_their_defaults_are_the_real_ones(verb: str) -> None:
    known = defaults(verb)
    for flag in flags(verb):
        name = flag.name.removeprefix("--")
        # A logger is a group of options.
        assert name in known or any(key.startswith(f"{name}.") for key in known), flag.name
        if flag.default:
            real = known[name]
            assert flag.default == (str(real).lower() if isinstance(real, bool) else str(real)), flag.name


def test_help_all__is_the_whole_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prune", "--help_all"])
    assert stopped.value.code == 0
    assert "--limits.protected" in capsys.readouterr().out
