"""`litscope studio`: a socket, a token, an address, and a server that runs until somebody ends it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn

from litscope.errors import ConfigError, MissingExtra
from litscope.studio.doors.http import make_app
from litscope.studio.doors.security import Bound, Guard, Receive, Scope, Send, is_loopback
from litscope.studio.service import Studio

if TYPE_CHECKING:
    from litscope.studio.doors.rpc.server import RpcServer

FIRST_PORT, NUM_PORTS = 7860, 20
"""Without --port, the first of these that is free."""

LEAST_TOKEN = 16
"""Characters of a token that a person chose."""


@dataclass(frozen=True)
class Served:
    """How to serve.

    Attributes:
        host: address to listen at.
        port: 0: any that is free; None: the first free one from `FIRST_PORT` on.
        token: None: a random one.
        origins: of proxies before it, as https://hub.example.
        certfile, keyfile: for https.
        idle_s: end when nobody has asked anything for so many seconds; None: never.
        beside: count these only once that process has ended.
        grpc_port: also answer gRPC there; 0: any that is free; None: do not.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    origins: tuple[str, ...] = field(default=())
    certfile: Path | None = None
    keyfile: Path | None = None
    idle_s: float | None = None
    beside: int | None = None
    grpc_port: int | None = None

    def check(self) -> None:
        """Refuse what is not safe, or cannot be.

        Raises:
            ConfigError: saying what may be given.
        """
        if not is_loopback(self.host) and self.token is None:
            raise ConfigError(
                f"--host {self.host}: whoever reaches this machine could try to open the studio, and act on the runs. "
                f"If that is meant, choose a token and keep it to yourself: --token, {LEAST_TOKEN} characters or more. "
                "To look from another machine there is no need for it: ssh -L 7860:localhost:7860 THIS-MACHINE."
            )
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not self.token.isascii()):
            raise ConfigError(f"--token: it has {LEAST_TOKEN} characters or more, all of them ASCII.")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: it is 0 (any that is free) to 65535.")
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ConfigError(f"--allow-origin {origin}: it is like https://hub.example, without a path.")
        if self.grpc_port is not None and not 0 <= self.grpc_port <= 65535:
            raise ConfigError(f"--grpc-port {self.grpc_port}: it is 0 (any that is free) to 65535.")
        if (self.certfile is None) != (self.keyfile is None):
            raise ConfigError("--certfile and --keyfile belong together.")


class Server:
    """A server that is bound, and serves when it is told to.

    Args:
        studio: the service.
        served: how; checked.

    Attributes:
        bound: where.
        rpc: the gRPC server beside it; None: there is none.

    Raises:
        ConfigError: if it cannot be bound, or a certificate cannot be read.
        MissingExtra: with a port for gRPC, where grpcio is not installed.
    """

    def __init__(self, studio: Studio, served: Served) -> None:
        self._served = served
        self._socket = _bound_socket(served)
        token = served.token or secrets.token_urlsafe(24)
        has_tls = served.certfile is not None
        self.bound = Bound(served.host, self._socket.getsockname()[1], token, served.origins, has_tls)
        app = make_app(studio)
        self._guarded = Guard(app, self.bound)
        self._last_asked = time.monotonic()
        self._num_open = 0
        config = uvicorn.Config(
            self._counted,
            log_level="warning",
            access_log=False,  # addresses have tokens in them
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            server_header=False,
            ssl_certfile=served.certfile,
            ssl_keyfile=served.keyfile,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigError(f"--certfile {served.certfile}, --keyfile {served.keyfile}: {error}.") from error
        self._server = _Server(config)
        self._server.closing = app.state.closing
        self.rpc = None if served.grpc_port is None else self._rpc_server(studio, served.grpc_port, token)

    @property
    def address(self) -> str:
        """Where a person opens it, with the token."""
        return f"{self.bound.address}?token={self.bound.token}"

    def _rpc_server(self, studio: Studio, port: int, token: str) -> RpcServer:
        try:
            from litscope.studio.doors.rpc.server import RpcServer
        except ImportError as error:
            self._socket.close()
            raise MissingExtra("grpcio", "grpc", "--grpc-port") from error
        try:
            return RpcServer(studio, self._served.host, port, token, self._served.certfile, self._served.keyfile)
        except ConfigError:
            self._socket.close()
            raise

    @property
    def rpc_address(self) -> str | None:
        """Where gRPC is asked, HOST:PORT; None: nowhere."""
        if self.rpc is None:
            return None
        host = urlsplit(self.bound.address).hostname or self.bound.host
        return f"{f'[{host}]' if ':' in host else host}:{self.rpc.port}"

    def serve(self) -> None:
        """Serve until Ctrl-C, SIGTERM, `stop`, or until nobody has asked for long enough."""
        asyncio.run(self._serve())

    def stop(self) -> None:
        """End `serve`; may be called from another thread."""
        self._server.should_exit = True

    async def _serve(self) -> None:
        watching = asyncio.create_task(self._end_when_idle())
        if self.rpc is not None:
            self.rpc.start()
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            watching.cancel()
            if self.rpc is not None:
                await asyncio.to_thread(self.rpc.stop)

    async def _end_when_idle(self) -> None:
        idle_s = self._served.idle_s
        while idle_s is not None and not self._server.should_exit:
            if self._served.beside is not None and _lives(self._served.beside):
                self._last_asked = time.monotonic()
            asked, num_open = self._last_asked, self._num_open
            if self.rpc is not None:
                asked, num_open = max(asked, self.rpc.calls.last_asked), num_open + self.rpc.calls.num_open
            left = asked + idle_s - time.monotonic()
            if left <= 0 and not num_open:
                self.stop()
                return
            await asyncio.sleep(min(max(left, 0.05), 1.0))

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application; an answer that is under way counts as somebody who asks."""
        self._num_open += 1
        try:
            await self._guarded(scope, receive, send)
        finally:
            self._num_open -= 1
            self._last_asked = time.monotonic()


class _Server(uvicorn.Server):
    """Tells event streams to end before it waits for connections."""

    closing: asyncio.Event

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.closing.set()
        await super().shutdown(sockets)


def _bound_socket(served: Served) -> socket.socket:
    ports = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if served.port is None else [served.port]
    family = socket.AF_INET6 if ":" in served.host else socket.AF_INET
    error: OSError | None = None
    for port in ports:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((served.host, port))
            found.listen(128)  # whoever asks before the server runs waits a moment
        except OSError as why:
            found.close()
            error = why
            continue
        return found
    which = f"--port {served.port}" if served.port is not None else f"Ports {ports[0]} to {ports[-1]}"
    raise ConfigError(f"{which} of {served.host} cannot be had: {error}. Give another: --port N (0: any).") from error


def _lives(pid: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True
