"""Hand-over between threads."""

import threading
import time

import pytest

from polyp_lightning.deploy.video.channel import Channel


def test_channel__keeps_order_and_makes_the_writer_wait() -> None:
    channel: Channel[int] = Channel(2)
    put: list[int] = []

    def write() -> None:
        for item in range(50):
            assert channel.put(item)
            put.append(item)
        channel.close()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    time.sleep(0.05)
    assert put == [0, 1]
    assert list(channel) == list(range(50))
    writer.join(1)
    assert channel.dropped == 0


def test_channel__drops_the_oldest() -> None:
    channel: Channel[int] = Channel(1, drop=True)
    for item in range(5):
        channel.put(item)
    channel.close()
    assert list(channel) == [4]
    assert channel.dropped == 4


def test_channel__hands_on_the_error_after_what_waits() -> None:
    channel: Channel[int] = Channel(4)
    channel.put(1)
    channel.close(ValueError("broken"))
    channel.close()
    items = iter(channel)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_channel__closing_frees_a_waiting_writer() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    answers: list[bool] = []
    writer = threading.Thread(target=lambda: answers.append(channel.put(1)), daemon=True)
    writer.start()
    time.sleep(0.02)
    channel.close()
    writer.join(1)
    assert answers == [False]
