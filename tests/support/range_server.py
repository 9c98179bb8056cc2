"""A plain web server on loopback, for the files of a folder; with or without an idea of range requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Ranged(SimpleHTTPRequestHandler):
    """What most web servers do: a part where one is asked for."""

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if found is None or not path.is_file():
            super().do_GET()
            return
        content, start = path.read_bytes(), int(found[1])
        part = content[start : int(found[2]) + 1 if found[2] else None]
        if not part:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _Whole(SimpleHTTPRequestHandler):
    """`python -m http.server`: the whole file, whatever is asked for."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def web_server(folder: Path, *, knows_ranges: bool = True) -> Iterator[str]:
    """Its address."""
    handler = _Ranged if knows_ranges else _Whole
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
