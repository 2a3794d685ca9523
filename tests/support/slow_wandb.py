"""A stand-in for W&B's server on this machine, whose answers come late or never."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RUN: dict[str, Any] = {
    **{"id": "x", "name": "x", "displayName": "x", "description": None, "config": "{}", "sweepName": None},
    **{"historyLineCount": 0, "project": {"name": "p", "entity": {"name": "e"}}},
}
# What W&B's service (0.31) asks, and as little of an answer as it takes.
_ANSWERS: dict[str, Any] = {
    "upsertBucket": {"upsertBucket": {"bucket": _RUN, "inserted": True}},
    "serverInfo": {"serverInfo": {"features": []}},
    "viewer": {"viewer": {"id": "v", "entity": "e", "username": "e", "flags": "{}", "teams": {"edges": []}}},
    "createRunFiles": {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": []}},
    "query ArtifactType": {"project": None},
    "bucket(": {"model": {"bucket": None}},
}


def _resumable(lines: int) -> dict[str, Any]:
    """What the service is told of a run whose history has so many lines."""
    texts = {"summaryMetrics": "{}", "config": "{}", "historyTail": "[]", "eventsTail": "[]", "wandbConfig": '{"t": 1}'}
    counts = {"historyLineCount": lines, "eventsLineCount": 0, "logLineCount": 0}
    bucket = {"id": "x", "name": "x", "displayName": "x", "tags": [], "notes": "", **texts, **counts}
    return {"model": {"id": "m", "name": "p", "entity": {"id": "e", "name": "e"}, "bucket": bucket}}


class SlowServer(ThreadingHTTPServer):
    """Attributes.

    - ``asked``: the requests' GraphQL fields or paths;
    - ``answered``: when the last of each was;
    - ``rows``: of history that were uploaded;
    - ``offsets``: the line of the run's history at which each upload of rows began.
    """

    daemon_threads = True

    def __init__(self, seconds: float, answers: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds, self.answers = seconds, answers
        self.asked: list[str] = []
        self.answered: dict[str, float] = {}
        self.rows: list[dict[str, Any]] = []
        self.offsets: list[int] = []
        self.closing = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: SlowServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = body.decode("utf-8", "replace")
        found = next((name for name in _ANSWERS if name in text), None)
        self.server.asked.append(found or self.path)
        limit = self.server.answers
        if self.server.closing.wait(self.server.seconds if limit is None or len(self.server.asked) <= limit else 1e6):
            return
        if "file_stream" in self.path and body:
            history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.server.rows += [json.loads(line) for line in history.get("content", [])]
            self.server.offsets += [history["offset"]] if history else []
        if found == "bucket(" and self.server.rows:
            answer = _resumable(len(self.server.rows))
        else:
            answer = _ANSWERS.get(found or "")
        content = json.dumps({"data": answer} if found else {"errors": [{"message": "not here"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # A service that has given up listens no more.
        with suppress(OSError):
            self.wfile.write(content)
        self.server.answered[found or self.path] = time.time()

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def slow_server(seconds: float, answers: int | None = None) -> Iterator[SlowServer]:
    """Serves on a free port of 127.0.0.1.

    Args:
        seconds: before each answer.
        answers: how many requests are answered at all; None for every one.
    """
    with SlowServer(seconds, answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
