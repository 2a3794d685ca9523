"""W&B's service, a process beside the training that may be slow, hang or die: none of it may stop the training.

A run kept offline writes through the same process, and with it stopped neither ``run.finish`` (whatever its
``finish_timeout``) nor the end of Python returns, so going offline first and uploading later replaces none of this.
W&B (0.31) waits at the end of Python for a process that only private attributes name, so :func:`stop_service` has to
read them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

CALL_TIMEOUT = 120.0
"""Seconds after which a call counts as hanging. Most take 1 ms; one with a table asks the server, which may be slow."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run may take, in which the service uploads what it has not yet."""
STOP_TIMEOUT = 30.0
"""Seconds that the end of a service may take that was told to stop."""

_CLEANER = "wandb-ServiceFinalizer"


class Calls:
    """Makes calls one after the other in a thread of its own; adding one does not wait."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[Callable[[], object], Future[None]] | None] = SimpleQueue()
        self._pending: deque[Future[None]] = deque()
        self._begun = 0.0
        self._closed = False
        # A daemon: a call that never returns would keep the process from ending.
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def left(self) -> bool:
        """Whether calls are left that were not made, or whose errors were not raised."""
        return bool(self._pending)

    @property
    def unmade(self) -> int:
        """How many calls have not returned."""
        return sum(not future.done() for future in self._pending)

    def add(self, call: Callable[[], object]) -> None:
        """Queues a call."""
        future: Future[None] = Future()
        self._pending.append(future)
        self._todo.put((call, future))

    def check(self, seconds: float) -> None:
        """Raises the error of a finished call.

        Raises:
            TimeoutError: a call has been running for longer than so many seconds.
            Exception: whatever it was.
        """
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        if self._pending and self._pending[0].running() and time.monotonic() - self._begun > seconds:
            raise _unanswered(seconds)

    def wait(self, seconds: float) -> None:
        """Waits until all calls are made; see :meth:`check`.

        Raises:
            TimeoutError: they are not by then.
            Exception: whatever one of them raised.
        """
        end = time.monotonic() + seconds
        while self._pending:
            try:
                self._pending[0].exception(max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise _unanswered(seconds) from None
            self._pending.popleft().result()

    def close(self) -> None:
        """Drops the calls that wait, and ends the thread once the running one has returned."""
        self._closed = True
        self._todo.put(None)

    def _work(self) -> None:
        while (item := self._todo.get()) is not None and not self._closed:
            call, future = item
            self._begun = time.monotonic()
            future.set_running_or_notify_cancel()
            try:
                call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


def _unanswered(seconds: float) -> TimeoutError:
    return TimeoutError(f"its service has not answered within {seconds:.3g} s")


def is_service_error(error: Exception) -> bool:
    """Tells W&B's failures from mistakes of the caller."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in {"wandb", "pydantic_core"}


def is_refused_entry(error: Exception) -> bool:
    """Tells whether the server refused one entry, or answered nonsense, while the service itself works."""
    import wandb

    return isinstance(error, wandb.errors.CommError) or type(error).__module__ == "pydantic_core._pydantic_core"


def quiet_cleaner() -> None:
    """Keeps the traceback of W&B's thread that tells its service what was freed off the terminal.

    It has nothing to tell to a service that has died or was stopped, and whoever trains is warned of that in one line.
    """
    report = threading.excepthook

    def report_others(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread.name != _CLEANER:
            report(args)

    if getattr(report, "__name__", "") != report_others.__name__:
        threading.excepthook = report_others


def stop_service() -> None:
    """Kills a service that died or hangs; W&B would otherwise wait for it when Python ends."""
    import wandb

    process: Any = wandb.setup()
    for name in ("_connection", "_proc", "_process"):
        process = getattr(process, name, None)
    if process is not None:
        process.kill()
    end = Calls()
    end.add(wandb.teardown)
    # It exits with the status of its service.
    with suppress(Exception, SystemExit):
        end.wait(STOP_TIMEOUT)
    end.close()
    wandb.run = None
