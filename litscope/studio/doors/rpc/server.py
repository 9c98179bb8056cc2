"""The gRPC server: a port, who may ask, the calls. As safe as HTTP: a token for every call, loopback, TLS, sizes."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from litscope.errors import ConfigError
from litscope.studio.doors.rpc.calls import MOST_STREAMS, Calls
from litscope.studio.doors.rpc.messages import SERVICE
from litscope.studio.doors.security import MOST_BODY_BYTES
from litscope.studio.service import Studio

NUM_THREADS = 8
"""For calls that are no streams."""

MOST_WAITING = 64
"""Calls at a time; those beyond are refused at once."""

MOST_ANSWER_BYTES = 256 * 2**20
GRACE_S = 2.0


class RpcServer:
    """A server that is bound, and serves from `start` to `stop`.

    Args:
        studio: the service.
        host, port: where; port 0: any.
        token: that every call has to carry.
        certfile, keyfile: for TLS; None: in clear text.

    Attributes:
        port: as bound.
        calls: who counts what is asked.

    Raises:
        ConfigError: if it cannot be bound, or a certificate cannot be read.
    """

    def __init__(
        self, studio: Studio, host: str, port: int, token: str, certfile: Path | None, keyfile: Path | None
    ) -> None:
        self.calls = Calls(studio)
        self._server = grpc.server(
            ThreadPoolExecutor(NUM_THREADS + MOST_STREAMS, "grpc"),
            interceptors=[_Guard(token)],
            maximum_concurrent_rpcs=MOST_WAITING,
            options=[
                ("grpc.so_reuseport", 0),  # nobody else may listen at the same port
                ("grpc.max_receive_message_length", MOST_BODY_BYTES),
                ("grpc.max_send_message_length", MOST_ANSWER_BYTES),
                ("grpc.max_metadata_size", 16_384),
            ],
        )
        handler = grpc.method_handlers_generic_handler(SERVICE, self.calls.handlers())
        self._server.add_generic_rpc_handlers((handler,))
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._server)
        self.port = self._bound(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", certfile, keyfile)

    def _bound(self, place: str, certfile: Path | None, keyfile: Path | None) -> int:
        try:
            if certfile is None or keyfile is None:
                return int(self._server.add_insecure_port(place))
            pair = (keyfile.read_bytes(), certfile.read_bytes())
            return int(self._server.add_secure_port(place, grpc.ssl_server_credentials([pair])))
        except OSError as error:
            raise ConfigError(f"--certfile {certfile}, --keyfile {keyfile}: {error}.") from error
        except RuntimeError as error:
            raise ConfigError(f"--grpc-port: {place} cannot be had. Give another: --grpc-port N (0: any).") from error

    def start(self) -> None:
        """Serve, in threads."""
        self._server.start()

    def stop(self) -> None:
        """End what is under way, within two seconds."""
        self.calls.closing.set()
        self._server.stop(GRACE_S).wait()


class _Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses every call without the token, whatever it calls: reflection, and what does not exist, too."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    def intercept_service(self, go_on: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call."""
        given = [value for name, value in details.invocation_metadata if name == "authorization"]
        if len(given) == 1 and hmac.compare_digest(_bytes(given[0]), self._wanted):
            return go_on(details)
        return grpc.stream_stream_rpc_method_handler(_no_token)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


def _no_token(requests: Any, context: Any) -> Any:  # noqa: ARG001
    context.set_trailing_metadata((("litscope-error", "NoToken"),))
    context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "This needs the token that `litscope studio` printed, as metadata: authorization: Bearer TOKEN.",
    )
