import copy
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from wandb_file import read_run

from polyp_lightning.tracking import RunLogger
from polyp_lightning.tracking.logger import choose_mode, logged_in

_KEY = "0123456789" * 4


def test_choose_mode__table() -> None:
    key = {"WANDB_API_KEY": _KEY}
    nobody = {"NETRC": "/nowhere"}
    assert choose_mode(None, nobody) == "offline"
    assert choose_mode(None, key) is None
    assert choose_mode(True, key) == "offline"
    assert choose_mode(False, key) == "online"
    assert choose_mode(False, nobody) == "offline"
    assert choose_mode(None, {**nobody, "WANDB_MODE": "online"}) == "offline"
    assert choose_mode(None, {**key, "WANDB_MODE": "offline"}) == "offline"
    assert choose_mode(None, {**nobody, "WANDB_MODE": "disabled"}) == "disabled"


@pytest.mark.parametrize(
    ("machine", "base_url", "expected"),
    [
        ("api.wandb.ai", None, True),
        ("wandb.example.org", "https://wandb.example.org", True),
        ("api.wandb.ai", "https://wandb.example.org", False),
        ("github.com", None, False),
    ],
)
def test_logged_in__netrc_entry_of_the_service(
    tmp_path: Path, machine: str, base_url: str | None, expected: Any
) -> None:
    path = tmp_path / "netrc"
    path.write_text(f"machine {machine}\n  login user\n  password {_KEY}\n")
    env = {"NETRC": str(path)} | ({"WANDB_BASE_URL": base_url} if base_url else {})
    assert logged_in(env) is expected


@pytest.mark.parametrize("text", [None, "", "machine api.wandb.ai login", "\x00 nonsense"])
def test_logged_in__no_or_broken_netrc(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "netrc"
    if text is not None:
        path.write_text(text)
    assert logged_in({"NETRC": str(path)}) is False


def test_logged_in__home_folder(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {_KEY}\n")
    assert logged_in({"HOME": str(tmp_path)}) is True


def test_run_logger__opens_nothing_before_its_first_use(tmp_path: Path) -> None:
    logger = RunLogger(str(tmp_path / "run"))
    for other in (logger, copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))):  # noqa: S301 (our own bytes)
        assert other.name == "polyp_lightning"
        assert other.save_dir == str(tmp_path / "run")
        assert other.run_folder is None
    assert not (tmp_path / "run").exists()


def test_run_logger__project_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert RunLogger().name == "mine"
    assert RunLogger(project="other").name == "other"


def test_run_logger__writes_an_offline_run_and_closes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = RunLogger(str(tmp_path / "run"))
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"val/dice": 0.5}, step=3)
    folder = logger.run_folder
    logger.finalize("success")
    run = read_run(tmp_path / "run")
    assert run["folder"] == folder.resolve()
    assert folder.name.startswith("offline-run-")
    assert run["project"] == "polyp_lightning"
    assert run["config"]["lr"] == 0.1
    assert (run["history"][0]["val/dice"], run["history"][0]["trainer/global_step"]) == (0.5, 3)
    assert run["metrics"]["*"] == "trainer/global_step"
    assert run["metrics"]["pareto/*"] == "complexity/gmacs"
    assert run["exit_code"] == 0
    assert "wandb" not in "".join(capfd.readouterr())
    assert not (tmp_path / "another").exists()


def test_run_logger__two_runs_of_one_process_have_their_own_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        logger = RunLogger(str(tmp_path / name))
        logger.log_metrics({"x": 1.0})
        logger.finalize("success" if name == "a" else "failed")
    assert read_run(tmp_path / "a")["exit_code"] == 0
    assert read_run(tmp_path / "b")["exit_code"] == 1


def test_run_logger__does_not_touch_the_environment(tmp_path: Path) -> None:
    import os

    before = dict(os.environ)
    logger = RunLogger(str(tmp_path), offline=True)
    logger.log_metrics({"x": 1.0})
    logger.finalize("success")
    changed = {k for k in os.environ.keys() | before.keys() if os.environ.get(k) != before.get(k)}
    # W&B itself notes its service's address.
    assert changed <= {"WANDB_SERVICE"}


def test_run_logger__disabled_by_the_environment_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = RunLogger(str(tmp_path / "run"))
    logger.log_metrics({"x": 1.0})
    assert logger.run_folder is None
    logger.finalize("success")
    assert not list((tmp_path / "run").rglob("*.wandb"))


def test_run_logger__a_malformed_key_falls_back_to_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "bogus")
    logger = RunLogger(str(tmp_path))
    with pytest.warns(UserWarning, match=r"W&B is offline: .*API key.*wandb sync"):
        logger.log_metrics({"x": 1.0})
    logger.finalize("success")
    assert read_run(tmp_path)["history"][0]["x"] == 1.0


@pytest.mark.slow
def test_run_logger__logged_in_but_unreachable_falls_back_to_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", _KEY)
    # A port of this machine at which no one listens: unreachable wherever the test runs.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    logger = RunLogger(str(tmp_path))
    start = time.monotonic()
    with pytest.warns(UserWarning, match="W&B is offline"):
        logger.log_metrics({"x": 1.0})
    logger.finalize("success")
    assert time.monotonic() - start < 30
    run = read_run(tmp_path)
    assert run["history"][0]["x"] == 1.0
    assert run["folder"].name.startswith("offline-run-")
