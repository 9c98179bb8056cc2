"""The doors of the studio, each as an object with the same methods: what one answers, all do.

An answer is plain values; a refusal is `Refused` with the kind of error. HTTP is asked over a socket, of a server in a
thread.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from litscope.errors import LitscopeError
from litscope.studio.acting import Asked
from litscope.studio.doors.serving import Served, Server
from litscope.studio.samples.maps import Looked
from litscope.studio.samples.selection import Selection
from litscope.studio.service import Studio

TOKEN = "a token of the tests"


class Refused(Exception):
    """What a door refused: the kind of error, and its message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Door(Protocol):
    """What every door can be asked."""

    def ask(self, what: str, run: str | None = None, **arguments: Any) -> Any:
        """The answer to a question: a method of the service, and its arguments."""

    def act(self, run: str, **asked: Any) -> Any:
        """The answer to an action."""


class OfService:
    """The service itself."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def ask(self, what: str, run: str | None = None, **arguments: Any) -> Any:
        if what == "map":
            arguments = {"look": Looked(**arguments)}
        try:
            found = getattr(self.studio, what)(*([] if run is None else [run]), **arguments)
        except LitscopeError as error:
            raise Refused(type(error).__name__, str(error)) from error
        return plain(found.facts if what == "map" else found)

    def act(self, run: str, **asked: Any) -> Any:
        if "samples" in asked:
            asked["samples"] = Selection(**asked["samples"])
        try:
            return plain(self.studio.act(run, Asked(**asked)))
        except LitscopeError as error:
            raise Refused(type(error).__name__, str(error)) from error


def plain(found: Any) -> Any:
    """Values as JSON has them."""
    value = asdict(found) if hasattr(found, "__dataclass_fields__") else found
    return json.loads(json.dumps(value))


PATHS = {"runs": "/api/runs", "session": "/api/session", "compare": "/api/compare", "page": "/api/runs/{run}"}
PATHS["sample"] = "/api/runs/{run}/samples/{sample_id}"
PATHS["count"] = "/api/runs/{run}/samples/count"
BARE = {"count": "total", "typical": "sample_ids", "position": "position", "find": "sample_id"}
"""Where HTTP wraps a plain value."""


class OfHttp:
    """A server's socket."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def raw(
        self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of an answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        given = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        if body is not None and headers is None:
            given["Content-Type"] = "application/json"
        text = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, body=text, headers=given)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def ask(self, what: str, run: str | None = None, **arguments: Any) -> Any:
        path = PATHS.get(what, f"/api/runs/{{run}}/{what}")
        if what == "sql":
            return self._checked(self.raw(path.format(run=run), "POST", arguments))
        path = path.format(run=run, sample_id=arguments.pop("sample_id", None) if what == "sample" else None)
        query = {name: _text(value) for name, value in arguments.items()}
        found = self._checked(self.raw(path + (f"?{urlencode(query)}" if query else "")))
        return found[BARE[what]] if what in BARE else found

    def act(self, run: str, **asked: Any) -> Any:
        return self._checked(self.raw(f"/api/runs/{run}/actions", "POST", asked))

    def _checked(self, found: tuple[int, dict[str, str], bytes]) -> Any:
        status, headers, body = found
        if headers.get("content-type") == "application/vnd.litscope.columns":
            length = int.from_bytes(body[4:8], "little")
            return json.loads(body[8 : 8 + length])["facts"]
        answer = json.loads(body)
        if status >= 400:
            raise Refused(answer["error"]["type"], answer["error"]["message"])
        return answer


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def served(studio: Studio, **how: Any) -> Iterator[tuple[OfHttp, Server]]:
    """A server in a thread, over a real socket."""
    server = Server(studio, Served(**{"port": 0, "token": TOKEN, **how}))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield OfHttp("127.0.0.1", server.bound.port), server
    finally:
        server.stop()
        thread.join(20)
    assert not thread.is_alive()


def only_run(studio: Studio) -> str:
    """The id of the only run."""
    (line,) = studio.runs().runs
    return line.id


def studio_over(*folders: Path, cache: Path, **options: Any) -> Studio:
    """A studio with a cache of its own."""
    return Studio(folders, cache=cache, **options)
