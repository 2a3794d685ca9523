"""Handing items from one thread to the next."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue with one writer and one reader that either side can close.

    A full one makes the writer wait; with ``drop`` it drops the oldest item, so that the reader always gets the newest.
    ``dropped`` counts these.
    """

    def __init__(self, capacity: int, drop: bool = False) -> None:
        self.dropped = 0
        self._capacity, self._drop = capacity, drop
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Adds an item; returns whether the channel is still open, which a writer has to heed."""
        with self._changed:
            while not (self._closed or self._drop) and len(self._items) >= self._capacity:
                self._changed.wait()
            if self._closed:
                return False
            while len(self._items) >= self._capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """Ends the channel: the reader gets what waits, and then the error if there is one. The first close counts."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items until the channel is closed and empty; raises the error that it was closed with."""
        while True:
            with self._changed:
                while not (self._items or self._closed):
                    self._changed.wait()
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
