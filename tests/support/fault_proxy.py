"""A proxy on loopback, between a client and an HTTP server, that does to the answers of reads what networks do."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time

_SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)


class FaultProxy:
    """Faults are counted: each hits the next answers to a GET of an object, and then no more.

    Attributes:
        port: that it listens on.
        is_refusing: break every connection at once.
        reads: the ranges that were asked for, "" for a whole object.
    """

    def __init__(self, upstream: int) -> None:
        self.is_refusing = False
        self.reads: list[str] = []
        self._upstream = upstream
        self._faults: list[tuple[str, float]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def busy(self, count: int) -> None:
        """Answer 503."""
        self._add(count, "busy", 0)

    def cut(self, count: int, after: int) -> None:
        """Send so many bytes of the body, and break the connection."""
        self._add(count, "cut", after)

    def slow(self, count: int, seconds: float) -> None:
        """Wait before the answer."""
        self._add(count, "slow", seconds)

    def flip(self, count: int) -> None:
        """Turn a bit in the middle of the body."""
        self._add(count, "flip", 0)

    def close(self) -> None:
        self._listener.close()

    def _add(self, count: int, kind: str, value: float) -> None:
        with self._lock:
            self._faults += [(kind, value)] * count

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            if self.is_refusing:
                _reset(client)
                return
            with socket.create_connection(("127.0.0.1", self._upstream)) as server:
                asked, told = client.makefile("rb"), server.makefile("rb")
                while (head := _head(asked)) and not self.is_refusing:
                    self._answer(head, _body(head, asked), client, server, told)
                _reset(client)

    def _answer(self, head: bytes, body: bytes, client: socket.socket, server: socket.socket, told) -> None:  # type: ignore[no-untyped-def]
        method, target = head.split(b" ")[:2]
        is_read = method == b"GET" and b"list-type" not in target and target.count(b"/") > 1
        kind, value = "", 0.0
        if is_read:
            found = re.search(rb"(?i)\r\nrange: *bytes=(\S+)", head)
            with self._lock:
                self.reads.append(found[1].decode() if found else "")
                if self._faults:
                    kind, value = self._faults.pop(0)
        if kind == "busy":
            length = len(_SLOW_DOWN)
            client.sendall(
                b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % length
            )
            client.sendall(_SLOW_DOWN)
            return
        if kind == "slow":
            time.sleep(value)
        server.sendall(head + body)
        answer = _head(told)
        if not answer:  # it was killed meanwhile
            _reset(client)
            raise ConnectionError
        content = b"" if method == b"HEAD" else _body(answer, told)
        if kind == "cut" and len(content) > value:
            client.sendall(answer + content[: int(value)])
            _reset(client)
            raise ConnectionError
        if kind == "flip" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        client.sendall(answer + content)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _head(file) -> bytes:  # type: ignore[no-untyped-def]
    head = b""
    while line := file.readline():
        head += line
        if line == b"\r\n":
            return head
    return b""


def _body(head: bytes, file) -> bytes:  # type: ignore[no-untyped-def]
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        body = b""
        while True:
            line = file.readline()
            size = int(line.split(b";")[0], 16)
            body += line + file.read(size + 2)
            if not size:
                return body
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return file.read(int(found[1])) if found else b""
