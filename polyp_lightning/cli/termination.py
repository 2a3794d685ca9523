"""Ends a process in good order when the system asks it to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def raise_on_termination() -> Iterator[None]:
    """Turns SIGTERM into ``SystemExit``: what is half written is removed or finished."""

    def stop(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Not in the main thread, which alone receives signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
