"""The W&B logger of a run: online for who is logged in and connected, offline for everyone else."""

import logging
import netrc
import os
import re
import shutil
import threading
import time
import uuid
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from polyp_lightning.common.files import hide_home
from polyp_lightning.tracking.service import (
    CALL_TIMEOUT,
    FINISH_TIMEOUT,
    Calls,
    is_refused_entry,
    is_service_error,
    quiet_cleaner,
    stop_service,
)

INIT_TIMEOUT = 10.0
"""Seconds that a logged-in user waits for the service before the run goes offline."""

_DISCREET: dict[str, Any] = {"x_disable_meta": True, "disable_git": True, "disable_code": True, "symlink": False}
"""No command line, user, host, program path or repository goes into a run that may be shown to others."""


def netrc_path(env: Mapping[str, str]) -> Path:
    """Returns the netrc file that W&B reads: ``$NETRC``, else ``~/.netrc``, else ``~/_netrc``."""
    if env.get("NETRC"):
        return Path(env["NETRC"]).expanduser()
    home = Path(env.get("HOME") or Path.home())
    return home / ".netrc" if (home / ".netrc").exists() else home / "_netrc"


def _hosts(env: Mapping[str, str]) -> set[str]:
    """Returns the machines in whose name a netrc file may hold the key."""
    import wandb

    if env.get("WANDB_BASE_URL"):
        return {urlsplit(env["WANDB_BASE_URL"]).netloc}
    return {urlsplit(wandb.Settings().base_url).netloc, "api.wandb.ai"}


def logged_in(env: Mapping[str, str] | None = None) -> bool:
    """Whether W&B credentials lie on this machine; asks no one, neither the network nor the terminal.

    They are ``WANDB_API_KEY``, ``WANDB_IDENTITY_TOKEN_FILE``, or an entry for the service in netrc.
    """
    env = os.environ if env is None else env
    if env.get("WANDB_API_KEY") or env.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        machines = netrc.netrc(netrc_path(env)).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any(machines[host][2] for host in _hosts(env) & machines.keys())


def choose_mode(offline: bool | None, env: Mapping[str, str] | None = None) -> str | None:
    """Decides how a run is opened, by the user's wish, or by the environment where there is none.

    Returns ``"offline"``, ``"disabled"``, or None, which leaves the choice to W&B (online unless ``wandb offline`` was
    typed in this folder). Online is never chosen without credentials, since W&B would then prompt for them.

    >>> choose_mode(None, {"WANDB_MODE": "dryrun"})
    'offline'
    >>> choose_mode(True, {"WANDB_API_KEY": "x"})
    'offline'
    """
    env = os.environ if env is None else env
    mode = env.get("WANDB_MODE", "").lower()
    if mode == "disabled":
        return "disabled"
    if offline or (offline is None and mode in {"offline", "dryrun"}) or not logged_in(env):
        return "offline"
    return "online" if offline is False else None


class RunLogger(WandbLogger):
    """Logs to W&B without ever prompting, and without ever failing for want of a network.

    The run is offline unless the user is logged in (``WANDB_API_KEY`` or netrc). ``WANDB_MODE`` is honoured, and so are
    ``WANDB_ENTITY``, ``WANDB_RUN_GROUP`` and the like. Where the service cannot be reached within ``INIT_TIMEOUT``
    seconds, or refuses the key, the run goes on offline with a warning; ``wandb sync`` uploads it later. A slow service
    is not waited for but at the run's end, for ``FINISH_TIMEOUT`` seconds. Where it dies or hangs in the middle of a
    run, training goes on without it, again with a warning, and what it had written by then (every 15 seconds) is kept.
    Nothing is opened before the first use: a logger can be built, copied and pickled freely. The run is closed when the
    trainer is done; a second run of the same process gets a folder of its own. A fit that goes on (``fit --ckpt_path``)
    goes on in its own W&B run.

    Args:
        save_dir: the run's folder, in which ``wandb/`` is made; None for the working folder.
        name: the run's name in the dashboard; None lets W&B choose.
        project: the project's name; None means ``$WANDB_PROJECT``, or else ``polyp_lightning``.
        offline: True never connects, False connects where credentials exist even if ``WANDB_MODE`` says offline, None
            decides as described above.
        group: runs that belong together; None leaves it to ``$WANDB_RUN_GROUP``.
        job_type: what is done, such as fit; None leaves it to ``$WANDB_JOB_TYPE``.
        tags: words to find the run by; None leaves them to ``$WANDB_TAGS``.
        upload_models: keep the best checkpoint, and what is exported of it, as artefacts, where the run is online.
    """

    def __init__(
        self,
        save_dir: str | None = None,
        name: str | None = None,
        project: str | None = None,
        offline: bool | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        upload_models: bool = True,
    ) -> None:
        named: dict[str, Any] = {"group": group, "job_type": job_type, "tags": tags}
        # Lightning would turn `offline=True` into WANDB_MODE for the whole process; _open decides instead.
        super().__init__(
            name=name,
            save_dir=os.path.expanduser(save_dir or ""),  # noqa: PTH111 (an empty one stays empty)
            project=project or os.environ.get("WANDB_PROJECT") or "polyp_lightning",
            offline=False,
            **named,
        )
        self.upload_models = upload_models
        self._wish = offline
        self._lost = False
        self._calls: Calls | None = None
        self._ends = False
        self._begun = 0.0
        self._goes_on = False

    @property
    def begun(self) -> float:
        """When the run was opened for the first time, in seconds since 1970."""
        return self._begun

    @property
    def goes_on(self) -> bool:
        """Whether this is another piece of a run that was begun before."""
        return self._goes_on

    def go_on(self, run_id: Any, begun: Any) -> None:
        """Makes this another piece of a run, before it is opened; a value of no use is passed over.

        Online W&B resumes the run. Pieces that were kept offline are files of their own with the same id, which
        ``wandb sync`` uploads one after the other into one run.

        Args:
            run_id: of the run, as W&B has it.
            begun: when its first piece was opened, in seconds since 1970.
        """
        if isinstance(run_id, str) and re.fullmatch(r"[\w-]{1,64}", run_id) and isinstance(begun, int | float):
            self._id, self._begun, self._goes_on = run_id, float(begun), True

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickling; Lightning would open a run here, so that merely copying a logger wrote to disk."""
        if self._experiment is None:
            return self.__dict__.copy()
        return {**super().__getstate__(), "_calls": None}

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, opened at the first use on rank zero (a dummy on the others)."""
        if self._experiment is None:
            self._open()
        return self._experiment

    @property
    def run_folder(self) -> Path | None:
        """The folder ``<save_dir>/wandb/…run-…`` of the opened run; None before that and where W&B is disabled."""
        folder = getattr(self._experiment, "dir", None)
        if self._experiment is None or getattr(self._experiment, "disabled", False) or not folder:
            return None
        return Path(folder).parent

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Notes the options of the module, paths without the home folder; see :class:`WandbLogger`."""
        values = dict(vars(params) if isinstance(params, Namespace) else params)
        shown = {key: hide_home(value) if isinstance(value, str) else value for key, value in values.items()}
        self.attempt(lambda _: super(RunLogger, self).log_hyperparams(shown, *args, **kwargs))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs a row; see :class:`WandbLogger`."""
        row = dict(metrics)
        self.attempt(lambda _: super(RunLogger, self).log_metrics(row, step))

    def attempt(self, call: Callable[[Any], object]) -> None:
        """Queues a call on the W&B run and does not wait for it.

        Once the service has failed, calls are dropped. A mistake of the caller is raised at a later call.
        """
        run = self.experiment
        if self._lost:
            return
        calls = self._calls = self._calls or Calls()
        calls.add(lambda: call(run))
        self._survive(lambda: calls.check(CALL_TIMEOUT))

    def _survive(self, look: Callable[[], object]) -> None:
        """Raises a mistake of the caller; warns of a failure of W&B and goes on."""
        try:
            look()
        except Exception as error:
            if not is_service_error(error):
                raise
            if is_refused_entry(error):
                warnings.warn(f"W&B has not taken one entry: {_reason(error)}. All else goes on.", stacklevel=4)
            else:
                self._go_on_without(error)

    def _finish(self, code: int) -> None:
        """Makes the calls that are left and ends the run; a service that does not let it end is stopped."""
        end, finished = time.monotonic() + FINISH_TIMEOUT, threading.Event()

        def finish(run: Any) -> None:
            run.finish(exit_code=code)
            finished.set()

        self.attempt(finish)
        self._ends = True
        # A call that the server would not have is one of several.
        while self._calls is not None and self._calls.left:
            self._survive(partial(self._calls.wait, max(0.0, end - time.monotonic())))
        if not self._lost and not finished.is_set():
            # W&B would wait for it without an end when the process ends.
            stop_service()

    def _end_calls(self) -> None:
        if self._calls is not None:
            self._calls.close()
        self._calls = None

    def _go_on_without(self, error: Exception) -> None:
        # The end of the run is a call like others, but nothing is lost with it.
        waiting = self._calls.unmade - self._ends if self._calls else 0
        missing = f" and {waiting} entries that waited for an answer" if waiting > 0 else ""
        warnings.warn(
            f"W&B has failed: {_reason(error)}. Training goes on without it; what was logged, but for the last 15 s or "
            f"so{missing}, is in {self.run_folder}, and `wandb sync` uploads it.",
            stacklevel=5,
        )
        self._end_calls()
        nothing: Any = _DummyExperiment()
        self._lost, self._experiment = True, nothing
        stop_service()

    def _open(self) -> None:
        import wandb

        mode = choose_mode(self._wish)
        if self._wish is False and mode == "offline":
            _warn("no W&B credentials were found (WANDB_API_KEY or `wandb login`)")
        try:
            self._start(mode)
        except (wandb.Error, TimeoutError, OSError) as error:
            if mode in {"offline", "disabled"}:
                raise
            _warn(str(error).splitlines()[0])
            self._forget_attempt()
            self._start("offline")

    def _start(self, mode: str | None) -> None:
        import wandb

        init = self._wandb_init
        # An id of our own lets a failed attempt be told from other runs, and a second `fit` or `test` continue the run.
        init["id"] = self._id = self._id or uuid.uuid4().hex[:8]
        init["mode"] = mode
        self._begun = self._begun or time.time()
        # Lightning passes it always, and W&B warns of it always.
        init.pop("anonymous", None)
        init["settings"] = wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT, **_DISCREET)
        # At INFO it writes whole paths into the run's own log.
        logging.getLogger("wandb").setLevel(logging.WARNING)
        if self._save_dir:
            Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        run = WandbLogger.experiment.fget(self)  # type: ignore[attr-defined]
        for handler in logging.getLogger("wandb").handlers:
            # A log on the run's disk, which may be full: each line that fails would be a traceback on the terminal.
            handler.handleError = lambda record: None  # type: ignore[method-assign]
        quiet_cleaner()
        if self._goes_on:
            # A piece can't know how many rows the earlier ones have, and rows of a step that is there would be dropped.
            # Milliseconds since the run's begin are more than rows.
            run.log({}, step=int(1000 * (time.time() - self._begun)))
        run.define_metric("complexity/gmacs", step_metric="trainer/global_step")
        run.define_metric("pareto/*", step_metric="complexity/gmacs")

    def _forget_attempt(self) -> None:
        """Ends the service that a failed attempt left waiting, which otherwise refuses the next one (wandb #9865)."""
        import wandb

        wandb.teardown()
        for left in Path(self._save_dir or ".").glob(f"wandb/run-*-{self._id}"):
            shutil.rmtree(left, ignore_errors=True)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the run when the trainer is done with it; a later use opens it again under the same id."""
        super().finalize(status)
        if self._experiment is not None:
            folder = self.run_folder
            self._finish(0 if status == "success" else 1)
            self._end_calls()
            self._experiment, self._lost, self._ends = None, False, False
            # A link to the service's log in the user's home.
            for link in folder.glob("logs/*") if folder else []:
                if link.is_symlink():
                    link.unlink()


def _reason(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0] or type(error).__name__


def _warn(reason: str) -> None:
    """Warns in one line why a run is offline, and how to upload it."""
    message = f"W&B is offline: {reason}. Nothing is lost: the run is kept on disk, `wandb sync` uploads it later."
    warnings.warn(message, stacklevel=4)
