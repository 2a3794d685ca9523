"""Which thread runs where."""

import os
import sys
from threading import Thread

import pytest

from polyp_lightning.deploy.video import cores as module
from polyp_lightning.deploy.video.cores import divide_cores, stay_on_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores can't be chosen")


@pytest.mark.parametrize(
    ("available", "threads", "expected"),
    [
        ({0}, 1, (None, None)),
        ({0, 1}, 1, ({1}, {0})),
        ({4, 7}, 2, (None, None)),
        ({2, 4, 7}, 2, ({4, 7}, {2})),
        ({0, 1, 2}, 1, (None, None)),
        (set(range(16)), 1, (None, None)),
    ],
)
def test_divided__only_where_cores_are_scarce(
    available: set[int], threads: int, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: available)
    assert divide_cores(threads) == expected


def test_on_cores__is_of_one_thread_and_ends_with_an_error() -> None:
    before, one = os.sched_getaffinity(0), {min(os.sched_getaffinity(0))}
    seen: list[set[int]] = []

    def fail() -> None:
        with stay_on_cores(one):
            seen.append(os.sched_getaffinity(0))
            seen.append(os.sched_getaffinity(os.getpid()))
            raise RuntimeError("midway")

    def in_thread() -> None:
        with pytest.raises(RuntimeError, match="midway"):
            fail()
        seen.append(os.sched_getaffinity(0))

    thread = Thread(target=in_thread)
    thread.start()
    thread.join()
    # In the block, the main thread meanwhile, and after it.
    assert seen == [one, before, before]
