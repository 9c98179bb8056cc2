"""An S3 server on loopback (moto's), in a process of its own: as slow to answer as a network, and it keeps accounts.

    python bench/object_store.py FOLDER LATENCY_S

Buckets are the folders below FOLDER; what lies in them is taken into memory before it listens. Each request waits
LATENCY_S before it is looked at, however many there are at a time. `GET /-/costs` tells what the server has done so
far (`Costs`), at once and without being counted. The port is the first line on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCESS = {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
"""What clients have to send; any key is good enough for moto."""

COSTS = "/-/costs"


@contextmanager
def serving(folder: Path, latency_s: float) -> Iterator[str]:
    """The address of a server of the buckets in `folder`; it ends with the block.

    What this process starts within the block finds `ACCESS` in its environment.
    """
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(latency_s)]
    errors = folder.parent / f"{folder.name}.stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **ACCESS}
        )
    before = {name: os.environ.get(name) for name in ACCESS}
    os.environ.update(ACCESS)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the S3 server did not start: {errors.read_text().strip().splitlines()[-1:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        process.kill()
        process.communicate()


class SlowServer:
    """A WSGI application behind a latency.

    Args:
        app: what answers.
        latency_s: before each request.
    """

    def __init__(self, app: Any, latency_s: float) -> None:
        self._app, self._latency_s = app, latency_s
        self._lock = threading.Lock()
        self._requests = self._bytes = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == COSTS:
            return self._costs(start_response)
        time.sleep(self._latency_s)
        body = b"".join(self._app(environ, start_response))
        with self._lock:
            self._requests += 1
            self._bytes += len(body) if environ["REQUEST_METHOD"] == "GET" else 0
        return [body]

    def _costs(self, start_response: Any) -> Iterable[bytes]:
        found = {"requests": self._requests, "bytes": self._bytes, "cpu_s": time.process_time()}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(found).encode()]


def main(folder: Path, latency_s: float) -> None:
    """Serve until killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.test import Client

    class Silent(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:  # a line for each request costs as much as a small answer
            pass

    app = DomainDispatcherApplication(create_backend_app)
    client = Client(app)
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    signed["x-amz-acl"] = "public-read"  # for clients that speak plain http
    for bucket in sorted(path for path in folder.iterdir() if path.is_dir()):
        client.put(f"/{bucket.name}", headers=signed)
        for file in sorted(path for path in bucket.rglob("*") if path.is_file()):
            client.put(f"/{file.relative_to(folder).as_posix()}", data=file.read_bytes(), headers=signed)
    server = make_server("127.0.0.1", 0, SlowServer(app, latency_s), threaded=True, request_handler=Silent)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
