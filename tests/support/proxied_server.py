"""An S3 server as litscope meets it in tests of faults: through a proxy, and with a cache of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from s3_server import ACCESS, S3Server


@contextmanager
def proxied(server: S3Server, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FaultProxy]:
    """The proxy before the server; the environment leads to it."""
    found = FaultProxy(server.port)
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": found.url, "LITSCOPE_CACHE": str(cache)}.items():
        monkeypatch.setenv(name, value)
    yield found
    found.close()
