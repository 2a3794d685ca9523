"""W&B's service, a process beside the training that may be slow, hang or die: none of it may stop the training."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

CALL_TIMEOUT = 30.0
"""Seconds that a call may take. The service only takes notes, and uploads when it can: an ordinary one takes 1 ms."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run may take, in which the service uploads what it has not yet."""


def within(seconds: float, call: Callable[[], object]) -> None:
    """Runs a call in a thread of its own, and waits for it no longer than so many seconds.

    Raises:
        TimeoutError: it is not done by then; its thread is left behind.
        Exception: whatever the call raised.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    # A daemon: a call that never returns would keep the process from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        msg = f"its service has not answered within {seconds:g} s"
        raise TimeoutError(msg)
    if raised:
        raise raised[0]


def is_of_the_service(error: Exception) -> bool:
    """Whether a call failed for W&B's reasons and not for a mistake of the caller's."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "wandb"


def stop_service() -> None:
    """Ends a service that died or hangs; W&B would otherwise wait for it when the process ends."""
    import wandb

    # W&B has no public way to end a service that does not listen.
    process: Any = wandb.setup()
    for name in ("_connection", "_proc", "_process"):
        process = getattr(process, name, None)
    if process is not None:
        process.kill()
    # It exits with the status of its service.
    with suppress(Exception, SystemExit):
        within(CALL_TIMEOUT, wandb.teardown)
    wandb.run = None
