"""A report in a real Chromium, from the disk: axe has nothing against it, nothing is asked, nothing fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from asked_runs import act, asked_run, write_images
from left_folders import cross_validated, searched
from playwright.sync_api import Browser, Page, sync_playwright
from studio_browser import AXE, CHROMIUM, launched

from litscope.studio.report.report import report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]
_VIOLATIONS = "axe.run(document, {resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


def opened(browser: Browser, file: Path, scheme: Literal["light", "dark"]) -> tuple[Page, list[str]]:
    """A file, and what its console says and what it asks for."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, offline=True)
    page, faults = context.new_page(), list[str]()
    page.on("console", lambda said: faults.append(said.text))
    page.on("request", lambda asked: faults.append(asked.url))
    page.goto(file.as_uri())
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_from_the_disk_for_everybody(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    if not AXE.is_file() and "CI" not in os.environ:
        pytest.skip("axe-core is not here: make lint fetches it")
    run = asked_run(tmp_path / "run", dataset=write_images(tmp_path / "images"))
    act(run, "discard", [2], why="it shows nothing")
    for folder in (run.path, searched(tmp_path / "tune"), cross_validated(tmp_path / "cv")):
        file = tmp_path / f"{folder.name}.html"
        file.write_bytes(report(str(folder), tmp_path / "c").to_bytes())
        page, faults = opened(browser, file, scheme)
        page.evaluate("() => document.querySelectorAll('details').forEach((one) => (one.open = true))")
        pictures = page.evaluate("() => [...document.images].map((one) => one.naturalWidth)")
        assert all(pictures)
        assert (len(pictures) > 0) == (folder == run.path)
        page.evaluate(AXE.read_text())
        found = page.evaluate(_VIOLATIONS)["violations"]
        assert [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found] == []
        page.set_viewport_size({"width": 360, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 600) == (scheme == "light")
        assert [one for one in faults if not one.startswith(("file:", "data:"))] == []
        page.context.close()
