import html
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_up import fit_run, pruned, result, study
from pages import read

from polyp_lightning.callbacks.picture import read_pareto_csv
from polyp_lightning.checkpoints.run_folder import best_checkpoints
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.checkpoints.test_scores import CheckpointScores, add_scores
from polyp_lightning.cli import main
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.report.inputs import read_source
from polyp_lightning.study.results import append_result
from polyp_lightning.tracking import pareto_csv

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def write(*folders: Path, out: Path, more: tuple[str, ...] = ()) -> str:
    page = out / "a page.html"
    assert main(["report", *map(str, folders), "-o", str(page), *more]) == 0
    return page.read_text(encoding="utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_report__a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = write(study(tmp_path / "a study"), out=tmp_path)
    assert titles(page) == [
        "Question and answer",
        "Dice by method at 25 % of the MACs",
        "Dice against measured time",
        "Frames where pruning hurt most",
        "All results",
        "Paired comparisons",
        "Protocol, seeds, commands, versions",
        "About",
    ]
    text = read(page).text
    assert "12 runs, seeds 0, 1, 2." in text
    assert "Not shown: values of single images or checkpoints are not in the folder." in text
    assert "a page.html" in capsys.readouterr().out


def test_report__a_single_run_without_data(tmp_path: Path) -> None:
    page = write(fit_run(tmp_path / "r<u>n"), out=tmp_path)
    text = read(page).text
    assert "r<u>n: 50 % of the dense MACs remain (4.000 → 2.000 GMACs)" in text
    assert "best validation Dice of its last stage 0.870." in text
    assert "can't be told without a dense network of equal training" in text
    folder = tmp_path / "r<u>n"
    dense = f"'{folder}-dense'"
    assert f"fit --config '{folder}/config.yaml' --pruning.target 1 --trainer.default_root_dir {dense}\n" in text
    assert f"report '{folder}' {dense}" in text
    assert "Widths, dense against pruned" in titles(page)
    assert "start file.pth" in text
    assert "/a/home" not in text
    alt = next(
        attributes["alt"] for tag, attributes in read(page).tags if tag == "img" and "Output" in attributes["alt"]
    )
    # 32 + 8 of 64 + 32.
    assert "41.7 % of all filters stay; least of encoder.conv2, 8 of 32" in str(alt)


def test_report__what_pruning_costs_is_told_beside_a_dense_run_of_equal_training(tmp_path: Path) -> None:
    run, dense, short = (tmp_path / name for name in ("run", "dense", "short"))
    fit_run(run), fit_run(dense, dense=0.95), fit_run(short, epochs=3, dense=0.97)
    text = read(write(run, short, dense, out=tmp_path)).text
    assert "best validation Dice 0.950 dense (dense, trained equally) → 0.870 (−0.080)" in text
    assert "Dashed: a dense network after equal training." in text
    assert "can't be told" not in text
    text = read(write(run, short, out=tmp_path)).text
    assert "can't be told without a dense network of equal training" in text
    assert "Dashed" not in text
    assert text.count("--pruning.target 1") == 1


def test_report__runs_and_a_study_in_one_page_each_once(tmp_path: Path) -> None:
    first, second = fit_run(tmp_path / "a" / "run"), fit_run(tmp_path / "b" / "run")
    page = write(first, second, first, study(tmp_path / "s"), out=tmp_path)
    assert titles(page).count("Runs: run: Stages") == 1
    assert titles(page).count("Runs: run (2): Stages") == 1


def test_report__markdown_holds_the_same_and_its_pictures_exist(tmp_path: Path) -> None:
    markdown = tmp_path / "text" / "report.md"
    page = write(study(tmp_path / "s"), out=tmp_path, more=("--markdown", str(markdown)))
    text = markdown.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == titles(page)
    pictures = re.findall(r"\]\(<(.*?)>\)\n\n", text)
    drawn = [picture for picture in pictures if not picture.startswith("https")]
    assert len(drawn) == page.count("<img ")
    assert all((markdown.parent / picture).stat().st_size > 1000 for picture in drawn)


def test_report__taylor_check_and_benchmark_in_the_folder(tmp_path: Path) -> None:
    folder = fit_run(tmp_path / "run")
    check = folder / "check"
    check.mkdir()
    (check / "correlations.csv").write_text(
        "criterion,rho,rho_of_size\nrandom,0.1,0.2\ntaylor,0.5,0.9\nuniform,nan,nan\n"
    )
    (check / "sets.csv").write_text(
        "criterion,components,macs_removed,change,predicted_change\ntaylor,2,0.1,0.02,0.01\ntaylor,4,0.3,0.2,0.05\n"
    )
    (folder / "speed.csv").write_text(
        "model,backend,threads,processor,gmacs,network_p50_ms\npruned.onnx,onnxruntime,1,A processor,0.4160001,8.71\n"
    )
    page = write(folder, out=tmp_path)
    text = read(page).text
    assert "Predicted against measured change of the loss" in titles(page)
    assert text.index("taylor0.5000.900") < text.index("random0.1000.200") < text.index("uniform––")
    assert "pruned.onnxonnxruntime0.416008.711A processor" in text


def test_report__scores_of_a_test_without_the_columns_that_say_nothing(tmp_path: Path) -> None:
    folder = fit_run(tmp_path / "run")
    values = {"images": 20, "dice": 0.9, "iou": 0.8, "dice_pranet": 0.85, "hd95": 7.25, "false_positive_rate": math.nan}
    add_scores(folder, CheckpointScores("last.ckpt", "", {}, {"kvasir": values}, "2026-01-01"))
    text = read(write(folder, out=tmp_path)).text
    assert "checkpointtest setimagesDiceIoUPraNet's DiceHD95\n" in text
    assert "last.ckptkvasir200.9000.8000.8507.250\n" in text


def test_report__a_study_of_several_targets_is_drawn_against_gmacs(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    append_result(folder / "results.csv", pruned("half", "taylor", 0, 0.85, target=0.5, gmacs=2.0))
    assert titles(write(folder, out=tmp_path))[1] == "Dice against GMACs"


def test_report__without_a_check_says_how_to_get_one(tmp_path: Path) -> None:
    folder = fit_run(tmp_path / "a run")
    best = folder / "checkpoints" / "stage0-epoch01-dice0.8900.ckpt"
    shutil.copy(folder / "checkpoints" / "last.ckpt", best)
    module, more = "python -m polyp_lightning taylor-check", " \\\n    "
    command = f"{module}{more}--ckpt_path '{best}'{more}--output '{folder}/taylor-check'"
    assert command in read(write(folder, out=tmp_path)).text
    # Not once for each of many.
    assert module not in read(write(folder, fit_run(tmp_path / "b"), out=tmp_path)).text
    of_study = study(tmp_path / "s")
    (of_study / "runs" / "dense-1").mkdir(exist_ok=True)
    shutil.copy(best, of_study / "runs" / "dense-1" / "best.ckpt")
    command = f"--ckpt_path {of_study}/runs/dense-1/best.ckpt{more}--output {of_study}/taylor-check"
    assert command in read(write(of_study, out=tmp_path)).text


def test_report__an_empty_study_and_one_without_the_asked_method(tmp_path: Path) -> None:
    append_result(tmp_path / "one" / "results.csv", result("dense-0"))
    assert "Not answered yet: 1 results" in read(write(tmp_path / "one", out=tmp_path)).text
    table = tmp_path / "one" / "results.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert "No run of the study has been tested yet." in read(write(tmp_path / "one", out=tmp_path)).text


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_report__a_folder_that_is_neither(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / name), "-o", str(tmp_path / "x.html")]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert "checkpoints/" in error
    assert "results.csv" in error
    assert not (tmp_path / "x.html").exists()


def test_report__a_damaged_checkpoint_and_a_wrong_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit_run(tmp_path / "run")
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"no")
    assert main(["report", str(folder), "-o", str(tmp_path / "x.html")]) == 2
    assert "last.ckpt" in capsys.readouterr().err
    assert main(["report", str(folder), "-o", str(tmp_path / "x.pdf")]) == 2
    assert ".html" in capsys.readouterr().err


def test_table_stages__the_inverse_of_what_fit_writes(tmp_path: Path) -> None:
    rows = [
        StageRecord(0, 0, 4.0, 1.0, 10, {}, {}, score_end=0.5),
        StageRecord(1, 2, 2.0, 0.5, 5, {}, {}, 0.5, 0.25, removed=3),
    ]
    assert read_pareto_csv(pareto_csv(rows, tmp_path / "pareto.csv")) == rows
    (tmp_path / "pareto.csv").write_text("stage,epoch\nx,1\n")
    with pytest.raises(ConfigError, match=r"pareto\.csv is no table of stages"):
        read_pareto_csv(tmp_path / "pareto.csv")


def test_read_source__a_run_whose_checkpoints_are_gone(tmp_path: Path) -> None:
    pareto_csv([StageRecord(0, 0, 4.0, 1.0, 10, {}, {})], tmp_path / "pareto.csv")
    source = read_source(tmp_path)
    assert source.stages[0].gmacs == 4.0  # type: ignore[union-attr]


def test_best_checkpoints__the_highest_dice_of_each_stage(tmp_path: Path) -> None:
    for name in ("stage0-epoch01-dice0.5000", "stage0-epoch02-dice0.6000", "stage2-epoch05-dice0.4000", "last", "pick"):
        (tmp_path / f"{name}.ckpt").touch()
    found = best_checkpoints(tmp_path)
    assert {stage: path.name for stage, path in found.items()} == {
        2: "stage2-epoch05-dice0.4000.ckpt",
        0: "stage0-epoch02-dice0.6000.ckpt",
    }


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_report__renders_in_a_real_browser_without_console_errors(tmp_path: Path) -> None:
    page = tmp_path / "a page.html"
    write(study(tmp_path / "s"), fit_run(tmp_path / "run"), out=tmp_path)
    command = _browser(tmp_path)
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [*command, f"--screenshot={shot}", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr
    from PIL import Image

    # Blue of the drawings, black of the text, on white.
    colours = {colour for _, colour in Image.open(shot).convert("RGB").getcolors(2**24) or []}
    assert {(0, 0x72, 0xB2), (0x1A, 0x1A, 0x1A), (255, 255, 255)} <= colours


def _browser(folder: Path) -> list[str]:
    return [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1000,3000", "--virtual-time-budget=5000",
    ]  # fmt: skip


_NARROW = """<iframe style="width:390px;height:3000px" srcdoc="{}"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const beyond = one => one.getBoundingClientRect().right > 390 || one.scrollWidth > 390;
  const wide = [...page.querySelectorAll("body, body *")].filter(beyond).map(one => one.tagName);
  document.title = page.querySelectorAll("td").length + " cells, too wide: " + wide;
}});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_report__hides_no_column_at_390_pixels(tmp_path: Path) -> None:
    text = write(study(tmp_path / "s"), fit_run(tmp_path / "run"), out=tmp_path)
    frame = tmp_path / "frame.html"
    frame.write_text(_NARROW.format(html.escape(text)), encoding="utf-8")
    command = [*_browser(tmp_path), "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (found,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    assert re.fullmatch(r"\d{2,} cells, too wide: ", found)
