from importlib import import_module

import pytest
import yaml

from polyp_lightning.cli import main
from polyp_lightning.cli.parsing import give_switches_values, make_parser, use_own_words
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.build import check_names


@pytest.mark.parametrize(
    ("words", "score"),
    [
        (["--score"], True),
        (["--score", "true"], True),
        (["--score=true"], True),
        (["--score", "false"], False),
        (["--score=false"], False),
        ([], False),
    ],
)
def test_parse_args__switches_bare_or_with_a_word(words: list[str], score: bool) -> None:
    parser = make_parser("export", "Writes a model.")
    parser.add_argument("--ckpt_path")
    parser.add_argument("--score", action="store_true")
    found = parser.parse_args([*words, "--ckpt_path", "true"])
    assert (found.score, found.ckpt_path) == (score, "true")


def test_give_switches_values__only_where_none_is_given() -> None:
    words = [
        "fit",
        "--masks.overlay",
        "--data.root",
        "a",
        "--model.help",
        "--print_config",
        "--trainer.max_epochs=3",
        "--x",
    ]
    expected = ["fit", "--masks.overlay=true", *words[2:-1], "--x=true"]
    assert give_switches_values(words) == expected


def test_use_own_words__any_verbs_word_for_the_same() -> None:
    assert use_own_words(["--model", "a", "--data_root=b"], ["--ckpt_path", "--root"]) == [
        "--ckpt_path",
        "a",
        "--root=b",
    ]
    # A verb that has both means what it says.
    assert use_own_words(["--out", "a"], ["--out", "--output"]) == ["--out", "a"]


@pytest.mark.parametrize(
    ("verb", "words", "own"),
    [
        ("predict", ["--ckpt_path", "a", "--source", "x", "--masks.output", "o", "--masks.overlay"],
         ["--model", "a", "--source", "x", "--output", "o", "--overlay"]),
        ("stream", ["--ckpt_path", "a", "--source", "x", "--output", "v"],
         ["--model", "a", "--source", "x", "--save", "v"]),
        ("benchmark", ["--ckpt_path", "a", "--out=t"], ["--model", "a", "--output=t"]),
    ],
    ids=["predict", "stream", "benchmark"],
)  # fmt: skip
def test_parse_args__words_of_other_verbs(verb: str, words: list[str], own: list[str]) -> None:
    parser = import_module(f"polyp_lightning.cli.{verb}")._parser()
    assert parser.parse_args(words) == parser.parse_args(own)


def test_predict__of_a_data_set_takes_the_words_of_predict_on_images(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--output", "o", "--overlay", "--print_config"])
    masks = yaml.safe_load(capsys.readouterr().out)["masks"]
    assert (masks["output"], masks["overlay"]) == ("o", True)


def test_check_names__pluses_are_understood() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean UnetPlusPlus"):
        check_names("unet++", "resnet18")


@pytest.mark.parametrize("verb", ["export", "benchmark", "stream", "report", "dashboard"])
def test_help__begins_with_a_sentence_and_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    sentence, example, *_ = capsys.readouterr().out.split("\n\n")
    assert sentence.endswith(".")
    assert example.startswith(f"example: python -m polyp_lightning {verb} ")
