"""The studio over many samples: how soon its page shows something, how fast it answers, what it takes; and ten tabs
beside a training.

The run is written by the ledger's own writer, without training (tests/support/many_samples.py): 1.28 million images in
1000 classes, every tenth of them for validation, 20 epochs, scores and all. It is made once and kept where the rivals'
environments are. Questions are asked over HTTP, one after the other, by one client; a filter or a sort that was not
asked before is a view that the server makes. The first paint is Chromium's: from the address to the first thumbnail of
the grid, by a server that was just started; then the grid jumps to five places, and scrolls. On two cores browser and
server share with what trains, so what ten tabs cost is told in CPU seconds of the training process, in turns with the
same training alone.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import tasks
from harness import Bench, Context
from lines import Line, figure_line
from processes import ArmFailed, environment

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from many_samples import many_run
from studio_browser import CHROMIUM, launched

SIZES = {"tiny": (3000, 2), "normal": (1_280_000, 20)}
"""Samples and epochs."""

ALONE, TEN_TABS = "alone", "ten tabs"


def _arm(num_samples: int, num_epochs: int) -> str:
    return f"{num_samples:,} samples, {num_epochs} epochs"


NORMAL = _arm(*SIZES["normal"])

FILTERS = (
    "split = train and label_name != pred_name",
    "split = val",
    "mean_loss > 1.5 and not is_discarded",
    'key ~ "0042/"',
    "variability > 0.2 and confidence < 0.5",
    "label_name in (c0001, c0002, c0003)",
    "p_label < 0.2 or entropy > 0.6",
)
SORTS = ("", "-mean_loss", "variability", "-el2n,sample_id", "key", "-p_label")
NUM_TABS = 10
WAIT_MS = 120_000

_THUMBNAIL = "() => [...document.querySelectorAll('.cell img')].some((one) => one.complete && one.naturalWidth > 0)"


_PLACE = "() => document.querySelector('.grid .cell').id"
_COME = """before => {
  const cells = [...document.querySelectorAll('.grid .cell')];
  return cells[0]?.id !== before && cells.every((one) => one.textContent !== '');
}"""
"""Other samples than before are there; a cell has words when its window has come."""

_SCROLLED = """async () => {
  const grid = document.querySelector('.grid'), took = [];
  for (let i = 0, last = performance.now(); i < 120; i++) {
    grid.scrollTop += 60;
    last = await new Promise((done) => requestAnimationFrame((now) => { took.push(now - last); done(now); }));
  }
  return took.slice(1);
}"""


class Served:
    """A studio in a process of its own.

    Args:
        context: of the bench.
        folder: of the runs.
        cache: of its thumbnails.

    Attributes:
        address: with the token.
    """

    def __init__(self, context: Context, folder: Path, cache: Path) -> None:
        command = [sys.executable, "-m", "litscope", "studio", str(folder), "--port", "0", "--no-browser", "--json"]
        variables = environment(1, context.work, is_ours=True) | {"LITSCOPE_CACHE": str(cache)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)
        assert self._process.stdout is not None
        told = ""
        for line in self._process.stdout:
            told += line
            if told.count("{") == told.count("}"):
                break
        if not told:
            raise ArmFailed("the studio did not start")
        self.address: str = json.loads(told)["result"]["address"]
        parts = urlsplit(self.address)
        self._token = parse_qs(parts.query)["token"][0]
        self._client = http.client.HTTPConnection(str(parts.hostname), parts.port)

    def ask(self, path: str, **query: Any) -> tuple[float, bytes]:
        """Milliseconds until the whole answer was here, and the answer.

        Raises:
            ArmFailed: if it is refused.
        """
        began = time.perf_counter()
        where = f"/api/{path}?{urlencode(query)}"
        self._client.request("GET", where, headers={"Authorization": f"Bearer {self._token}"})
        got = self._client.getresponse()
        content = got.read()
        if got.status != 200:
            raise ArmFailed(f"{where}: {got.status} {content[:300]!r}")
        return 1000 * (time.perf_counter() - began), content

    def run(self) -> str:
        """The id of its first run."""
        return str(json.loads(self.ask("runs")[1])["runs"][0]["id"])

    def peak_mib(self) -> float:
        """The most memory that it held at once."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self._client.close()
        self._process.terminate()
        self._process.communicate(timeout=60)


@contextmanager
def served(context: Context, folder: Path, cache: Path) -> Iterator[Served]:
    """A studio for a while."""
    server = Served(context, folder, cache)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class Asked:
    """What one question took. `kind`: page, map or other."""

    kind: str
    what: str
    ms: float


def many_lines(context: Context) -> list[Line]:
    """The studio over many samples."""
    num_samples, num_epochs = SIZES[context.size]
    run = _many_run(context, num_samples, num_epochs)
    arm = _arm(num_samples, num_epochs)
    lines = []
    with served(context, run, context.work / "cache") as server:
        opened, _ = server.ask(f"runs/{server.run()}/samples", count=100)
        asked = list(_questions(server, num_samples))
        facts: dict[str, Any] = {"num_questions": len(asked), "slowest": max(asked, key=lambda one: one.ms).what}
        of = {kind: [one.ms for one in asked if one.kind == kind] for kind in ("page", "map")}
        every = sorted(one.ms for one in asked)
        p95 = every[min(len(every) - 1, int(0.95 * len(every)))]
        lines += [
            figure_line(arm, "opened_s", "s", [opened / 1000], "cold"),
            figure_line(arm, "page_ms", "ms", of["page"]),
            figure_line(arm, "map_ms", "ms", of["map"]),
            figure_line(arm, "query_p95_ms", "ms", [p95], **facts),
            figure_line(arm, "server_mib", "MiB", [server.peak_mib()], "cold"),
            figure_line(arm, "server_cpu_ms", "ms of CPU", [1000 * server.cpu_s() / len(asked)]),
        ]
        for one in sorted(asked, key=lambda one: -one.ms)[:8]:
            print(f"studio: {one.ms:8.0f} ms  {one.kind:6} {one.what}", file=sys.stderr)
    if CHROMIUM is None:
        print("studio: no first paint without chromium", file=sys.stderr)
        return lines
    with served(context, run, context.work / "cache") as server:
        seen = _in_browser(server)
    return [
        *lines,
        figure_line(arm, "first_paint_s", "s", seen.paints_s[:1], "cold"),
        figure_line(arm, "next_paint_s", "s", seen.paints_s[1:], "cold"),
        figure_line(arm, "jump_ms", "ms", seen.jumps_ms),
        figure_line(arm, "frame_p95_ms", "ms", [sorted(seen.frames_ms)[int(0.95 * len(seen.frames_ms))]]),
    ]


def _many_run(context: Context, num_samples: int, num_epochs: int) -> Path:
    """The folder of the run, made where it is not there yet."""
    folder = context.environments.expanduser() if context.size == "normal" else context.work
    whole = folder / f"studio-{num_samples}-{num_epochs}"
    if not (whole / "many" / "summary.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir(parents=True)
        many_run(whole / "many", num_samples, num_epochs)
    return whole / "many"


def _questions(server: Served, num_samples: int) -> Iterator[Asked]:
    """What people and their pages ask, one after the other."""
    run = f"runs/{server.run()}"

    def asked(kind: str, path: str, **query: Any) -> tuple[Asked, bytes]:
        ms, content = server.ask(f"{run}{path}", **query)
        return Asked(kind, f"{path} {urlencode(query)}", ms), content

    for condition, order in product(FILTERS, SORTS):
        found, content = asked("page", "/samples", filter=condition, sort=order, count=100, sparklines="true")
        yield found
        view = json.loads(content)
        middle = {"view": view["view"], "start": view["total"] // 2, "count": 100, "sparklines": "true"}
        yield asked("other", "/samples", **middle)[0]
    domain = {"x0": 0.05, "x1": 0.3, "y0": 0.1, "y1": 0.8}
    for query in ({}, {"filter": "split = train"}, domain, domain | {"filter": FILTERS[0]}, {"color": "label_name"},
                  {"x": "mean_loss", "y": "el2n", "color": "suspicion"}, {"width": 400, "height": 400}):  # fmt: skip
        yield asked("map", "/map", **query)[0]
    near = {"at_x": 0.2, "at_y": 0.5, "radius_x": 0.01, "radius_y": 0.01}
    yield asked("other", "/map/near", **near)[0]
    for path, query in (
        ("", {}), ("/curves", {}), ("/journal", {}), ("/review", {}), ("/confusion", {}), ("/classes", {}),
        ("/calibration", {}), ("/facets", {"by": "label_name"}), ("/facets", {"by": "split"}),
        ("/histogram", {"column": "mean_loss"}), ("/histogram", {"column": "p_label", "filter": FILTERS[0]}),
        ("/samples/count", {"filter": FILTERS[4]}), ("/typical", {"label": "c0001"}),
    ):  # fmt: skip
        yield asked("other", path, **query)[0]
    for number in range(10):
        yield asked("other", f"/samples/{(number * 7919) % num_samples}")[0]


@dataclass(frozen=True)
class Seen:
    """What a browser had to wait for.

    Attributes:
        paints_s: from an address to the first thumbnail of the grid: of the first tab, and of the next one.
        jumps_ms: from a jump to another place of the grid to its samples.
        frames_ms: between two pictures while the grid scrolls by 60 pixels in each.
    """

    paints_s: list[float]
    jumps_ms: list[float]
    frames_ms: list[float]


def _in_browser(server: Served) -> Seen:
    from playwright.sync_api import sync_playwright

    paints, jumps = [], []
    with sync_playwright() as playwright:
        browser = launched(playwright)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        name = server.address.partition("?")[2]
        run = server.run()  # from the list: its samples are not opened by that
        for _ in range(2):
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{server.address.partition('?')[0]}?{name}&run={run}&view=samples")
            page.wait_for_function(_THUMBNAIL, timeout=WAIT_MS)
            paints.append(time.perf_counter() - began)
        for part in (0.5, 0.9, 0.1, 0.7, 0.3):
            before = page.evaluate(_PLACE)
            began = time.perf_counter()
            page.evaluate("part => { const grid = document.querySelector('.grid'); "
                          "grid.scrollTop = part * grid.scrollHeight }", part)  # fmt: skip
            page.wait_for_function(_COME, arg=before, timeout=WAIT_MS)
            jumps.append(1000 * (time.perf_counter() - began))
        frames = page.evaluate(_SCROLLED)
        browser.close()
    return Seen(paints, jumps, frames)


def tabs_lines(context: Context) -> list[Line]:
    """The same training alone and with ten tabs open on it, in turns."""
    if CHROMIUM is None:
        raise ArmFailed("ten tabs need chromium: apt-get install --no-install-recommends chromium")
    from playwright.sync_api import sync_playwright

    rounds = 1 if context.size == "tiny" else context.rounds
    runs = context.work / "tabs"
    costs: dict[str, list[float]] = {ALONE: [], TEN_TABS: [], "alone again": []}
    server_s: list[float] = []
    with sync_playwright() as playwright:
        browser = launched(playwright)
        for number in range(rounds):
            for arm in costs if number % 2 == 0 else reversed(costs):
                folder = runs / f"{arm.replace(' ', '-')}-{number}"
                if arm != TEN_TABS:
                    costs[arm].append(_train(context, folder / "run"))
                    continue
                folder.mkdir(parents=True)
                with served(context, folder, context.work / "cache") as server:
                    opened = _Tabs(browser, server)
                    costs[arm].append(_train(context, folder / "run", opened))
                    server_s.append(server.cpu_s())
        browser.close()
    base = costs[ALONE]
    aa = statistics.median(a / b for a, b in zip(base, costs["alone again"], strict=True))
    lines = []
    for arm, seconds in costs.items():
        ratios = [b / a for a, b in zip(base, seconds, strict=True)]
        facts: dict[str, Any] = {"base": ALONE, "ratio": round(statistics.median(ratios), 4)}
        facts |= {
            "ratio_min": round(min(ratios), 4),
            "ratio_max": round(max(ratios), 4),
            "aa_ratio": round(aa, 4),
            "rounds": rounds,
            "threads": 1,
        }
        lines.append(figure_line(arm, "training_cpu_s", "s of CPU", seconds, **facts))
    return [*lines, figure_line(TEN_TABS, "server_cpu_s", "s of CPU", server_s)]


class _Tabs:
    """Ten tabs that look at a run as soon as it is there."""

    def __init__(self, browser: Any, server: Served) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 800})
        self._server = server

    def open(self) -> None:
        """Open them, and wait until each shows the run."""
        base, _, token = self._server.address.partition("?")
        run = self._server.run()
        for number in range(NUM_TABS):
            page = self._context.new_page()
            view = ("curves", "samples", "map", "review", "classes")[number % 5]
            page.goto(f"{base}?{token}&run={run}&view={view}", wait_until="domcontentloaded")
            page.locator("header.bar h1").wait_for(timeout=WAIT_MS)

    def close(self) -> None:
        """Close them."""
        self._context.close()


def _train(context: Context, run: Path, tabs: _Tabs | None = None) -> float:
    """CPU seconds of a training, from its first to its last moment; the tabs open when its first epoch is over.

    Raises:
        ArmFailed: if it fails.
    """
    is_tiny = context.size == "tiny"
    command = [sys.executable, "-m", "litscope", "fit", "mnist", "--data-dir", str(tasks.mnist(context))]
    command += ["--arch", "convnet", "--batch-size", "64", "--run-dir", str(run), "--epochs", "3" if is_tiny else "12"]
    command += ["--limit-train-batches", "2" if is_tiny else "300", "--val-split", "0", "--limit-val-batches", "4"]
    command += ["--accelerator", "cpu", "--no-progress", "--logger", "none", "--limit-test-batches", "1"]
    with (context.work / "words").open("w+") as words:
        process = subprocess.Popen(
            command, stdout=words, stderr=words, env=environment(1, context.work, is_ours=True)
        )  # fmt: skip
        try:
            while tabs is not None and process.poll() is None and not (run / "metrics" / "epochs.jsonl").exists():
                time.sleep(0.05)
            if tabs is not None:
                tabs.open()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            if tabs is not None:
                tabs.close()
        if process.returncode:
            words.seek(0)
            raise ArmFailed(words.read()[-500:])
    return usage.ru_utime + usage.ru_stime


BENCH = Bench("studio", "The studio over 1.28 million samples and 20 epochs", is_long=True, measure=many_lines)
TABS = Bench("studio_tabs", "A training with ten tabs of the studio open on it: MNIST, convnet", measure=tabs_lines)
