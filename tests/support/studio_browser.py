"""A real Chromium that looks at a real `litscope studio`, and remembers all that it should not have seen."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium")
# Without these Chromium asks its maker's hosts for things of its own.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).resolve().parents[2] / "litscope" / "studio" / "page" / "node_modules" / "axe-core" / "axe.min.js"
NUM_PLANTED = 24


def launched(playwright: Playwright) -> Browser:
    """Debian's Chromium; Playwright downloads none."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)


@contextmanager
def studio(*runs: Path, options: tuple[str, ...] = ()) -> Iterator[str]:
    """A studio in a process of its own; its address, with the token."""
    command = [sys.executable, "-m", "litscope", "studio", *map(str, runs), "--port", "0", "--no-browser", "--json"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if told.count("{") == told.count("}"):
                break
        assert told, process.communicate()[1]
        yield json.loads(told)["result"]["address"]
    finally:
        process.terminate()
        said = process.communicate(timeout=30)[1]
        print(said, file=sys.stderr)
    assert "Traceback" not in said, said


class Watched:
    """A page, and what went wrong on it.

    Attributes:
        page: as Playwright drives it.
        faults: errors of the console and of scripts, answers of 400 and above, requests to other hosts.
    """

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self.faults: list[str] = []
        self._host = urlsplit(address).netloc
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda asked: self._asked(asked.url))
        self.page.on("response", lambda got: got.status >= 400 and self.faults.append(f"{got.status} {got.url}"))
        self.page.goto(address)

    def _asked(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != self._host:
            self.faults.append(f"asked another host: {url}")

    def go(self, query: str) -> None:
        """Open an address of the page, by its query."""
        self.page.goto(f"http://{self._host}/{query}")

    def accessibility_tree(self) -> list[dict[str, str]]:
        """What Chromium tells a screen reader: role and name of each node that is not ignored, in order."""
        session = self.context.new_cdp_session(self.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        session.detach()
        seen = [node for node in nodes if not node["ignored"]]
        return [{name: node.get(name, {}).get("value") or "" for name in ("role", "name")} for node in seen]

    def axe(self) -> list[str]:
        """What axe finds against accessibility, one line each."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())  # by the debugger's door: the page's policy lets no foreign script in
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]


def write_mnist(shared: Path, file: Path, num: int = 2400) -> list[int]:
    """Some digits of MNIST as an .npz file, `NUM_PLANTED` of them with a wrong label; the rows of these."""
    images = _bytes_of(shared / "mnist" / "train-images-idx3-ubyte.gz", 16)[: num * 784].reshape(num, 28, 28)
    labels = _bytes_of(shared / "mnist" / "train-labels-idx1-ubyte.gz", 8)[:num].astype(np.int64)
    planted = np.random.default_rng(0).choice(num, NUM_PLANTED, replace=False)
    labels[planted] = (labels[planted] + 1) % 10
    np.savez(file, X=images, y=labels)
    return sorted(int(row) for row in planted)


def _bytes_of(file: Path, header: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)


def command_of_fit(data: Path, run: Path, *flags: str) -> list[str]:
    """A training on few digits, as a person types it."""
    fit = [sys.executable, "-m", "litscope", "fit", str(data), "--run-dir", str(run), "--no-progress"]
    return [*fit, "--batch-size", "64", "--val-split", "0.15", *flags]


def id_of(page: Page) -> str:
    """The id of the run that is open."""
    found = re.search(r"[?&]run=([^&]+)", page.url)
    assert found is not None
    return found[1]


def answer(page: Page, path: str) -> dict[str, Any]:
    """What the service answers to the page's own browser, with its cookie."""
    got = page.request.get(page.url.split("?")[0] + "api/" + path)
    assert got.ok, got.text()
    found: dict[str, Any] = got.json()
    return found
