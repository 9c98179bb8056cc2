"""Who may ask: Host, Origin, token and size of every request, before anything reads it. Headers of every answer.

A page of another site can send requests to an address of this machine, and can have its own name point there. It can
read no answer without the token, which is in the address that `litscope studio` prints and then in a cookie that other
sites' requests do not carry. What does not name this server as its Host, or names another Origin, is refused first.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 32 * 2**20
"""Of a request: a million ids as text."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""No script but our own files, no request to anywhere else, no frame around the page."""

_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]

LOCKED = (
    "<!doctype html><meta charset=utf-8><title>litscope studio</title><p>This studio opens with the whole address that "
    "<code>litscope studio</code> printed when it began, with <code>?token=</code> in it."
)


@dataclass(frozen=True)
class Bound:
    """Where a server listens, and who may ask it.

    Attributes:
        host, port: as bound.
        token: of this server.
        origins: further origins, of proxies before it.
        has_tls: whether it speaks https.
    """

    host: str
    port: int
    token: str
    origins: tuple[str, ...] = ()
    has_tls: bool = False

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self.has_tls else "http"

    @property
    def address(self) -> str:
        """Where a person opens it, without the token."""
        host = socket.gethostname() if is_everywhere(self.host) else self.host
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def cookie(self) -> str:
        """The cookie's name: several studios on one machine have one each."""
        return f"litscope_{self.port}"

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: it follows from the token, and does not tell it."""
        return hmac.new(self.token.encode(), b"litscope studio cookie", hashlib.sha256).hexdigest()

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names this server.

        By a loopback name it may have any port: `ssh -L` and editors forward another one. A name that somebody else
        points at this machine is none of ours.
        """
        if any(host == urlsplit(origin).netloc for origin in self.origins):
            return True
        name, port = _split(host)
        if name in ("127.0.0.1", "localhost", "::1"):
            return True
        if (port or (443 if self.has_tls else 80)) != self.port:
            return False
        if name == self.host.lower():
            return True
        here = (socket.gethostname().lower(), socket.getfqdn().lower())
        return is_everywhere(self.host) and (_is_number(name) or name in here)

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header names the page that this server shows under that Host.

        A proxy may pass its own name on as Host, or put ours in its place (nginx does, unless it is told otherwise).
        """
        if origin in self.origins:
            return True
        if any(host == urlsplit(one).netloc for one in self.origins):
            return False
        return origin == f"{self.scheme}://{host}"


def is_everywhere(host: str) -> bool:
    """Whether a server at this address is reached from other machines by any of its names."""
    return host in ("0.0.0.0", "::", "")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(host: str) -> tuple[str, int | None]:
    name, _, port = host.rpartition(":")
    if not name or not port.isascii() or not port.isdigit():
        name, port = host, ""
    return name.strip("[]").lower(), int(port) if port and len(port) < 6 else None


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Stands before an application: refuses, or lets through.

    Args:
        app: the application.
        bound: where it is served.
    """

    def __init__(self, app: App, bound: Bound) -> None:
        self._app, self._bound = app, bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything but http (a WebSocket) is closed."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _with_headers(send)
        headers = scope["headers"]
        refusal = self._why_not(scope, headers)
        if refusal is not None:
            await _refuse(answer, *refusal)
            return
        if not self._is_known(headers):
            await self._without_token(scope, answer)
            return
        if b"token=" in scope["query_string"] and scope["method"] == "GET" and not _is_api(scope):
            await self._redirect(scope, answer)
            return
        await self._app(scope, _limited(receive), answer)

    def _why_not(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not self._bound.is_own_host(hosts[0]):
            return 403, "WrongHost", "This server does not go by that name. A proxy before it: --allow-origin ORIGIN."
        origins = _values(headers, b"origin")
        if any(not self._bound.is_own_origin(origin, hosts[0]) for origin in origins):
            return 403, "WrongOrigin", "A page of another site may not ask. A proxy of your own: --allow-origin ORIGIN."
        if _is_api(scope) and "cross-site" in _values(headers, b"sec-fetch-site"):
            return 403, "WrongOrigin", "A page of another site may not ask."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "MethodNotAllowed", "There are GET and POST."
        kinds = _values(headers, b"content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
            return 415, "WrongType", "The body of a request is JSON: Content-Type: application/json."
        lengths = _values(headers, b"content-length")
        if any(not length.isdigit() or int(length) > MOST_BODY_BYTES for length in lengths):
            return 413, "TooLarge", f"A request may have {MOST_BODY_BYTES:,} bytes."
        return None

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        for given in _values(headers, b"authorization"):
            kind, _, token = given.partition(" ")
            if kind.lower() == "bearer" and _is_same(token.strip(), self._bound.token):
                return True
        for text in _values(headers, b"cookie"):
            try:
                morsel = SimpleCookie(text).get(self._bound.cookie)
            except CookieError:
                continue
            if morsel is not None and _is_same(morsel.value, self._bound.cookie_value):
                return True
        return False

    async def _without_token(self, scope: Scope, send: Send) -> None:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        if scope["method"] == "GET" and not _is_api(scope) and given and _is_same(given, self._bound.token):
            await self._redirect(scope, send)
        elif _is_api(scope):
            message = "This needs the token of the address that `litscope studio` printed."
            await _refuse(send, 401, "NoToken", message, [(b"www-authenticate", b"Bearer")])
        else:
            await _answer(send, 401, LOCKED.encode(), b"text/html; charset=utf-8")

    async def _redirect(self, scope: Scope, send: Send) -> None:
        """The same page without the token in its address, where others may see it; for the right one, a cookie."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = urlencode([pair for pair in pairs if pair[0] != "token"])
        place = "./" + quote(scope["path"].rpartition("/")[2], safe="._-~")  # a proxy may have put us below a path
        target = (place + (f"?{rest}" if rest else "")).encode("latin-1", "replace")
        headers = [(b"location", target), (b"cache-control", b"no-store")]
        if _is_same(dict(pairs).get("token", ""), self._bound.token):
            secure = "; Secure" if self._bound.has_tls else ""
            # Without a path it is sent where the page is: below a proxy's path, not to its other pages.
            whole = "" if scope["path"] == "/" else "; Path=/"
            cookie = f"{self._bound.cookie}={self._bound.cookie_value}; HttpOnly; SameSite=Strict{whole}{secure}"
            headers.append((b"set-cookie", cookie.encode()))
        await _answer(send, 303, b"", b"text/plain", headers)


def _is_api(scope: Scope) -> bool:
    return bool(scope["path"] == "/api" or scope["path"].startswith("/api/"))


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _limited(receive: Receive) -> Receive:
    """As `receive`; a body that says nothing of its length ends at the limit, as if the sender had gone."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > MOST_BODY_BYTES else message

    return limited


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return with_headers


def error_body(kind: str, message: str, field: str | None = None, position: int | None = None) -> bytes:
    """An error as every answer has it."""
    error = {"type": kind, "message": message, "field": field, "position": position}
    return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")


async def _refuse(
    send: Send, status: int, kind: str, message: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    await _answer(send, status, error_body(kind, message), b"application/json", headers)


async def _answer(
    send: Send, status: int, body: bytes, media_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    length = (b"content-length", str(len(body)).encode())
    all_headers = [(b"content-type", media_type), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
