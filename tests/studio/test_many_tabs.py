"""Ten tabs of one browser on one run: each shows it, and what one does the others hear of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from asked_runs import asked_run, write_images
from playwright.sync_api import expect, sync_playwright
from studio_browser import CHROMIUM, launched, studio

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]

PAGES = Path(__file__).resolve().parents[2] / "scripts" / "page.py"
NUM_TABS = 10


def test_ten_tabs_share_a_stream(tmp_path: Path) -> None:
    """A browser has six connections to a host: were each tab to keep one, the seventh would load nothing."""
    done = subprocess.run([sys.executable, str(PAGES), "build"], capture_output=True, text=True)
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"the page cannot be built here: {done.stdout.strip()[:300]}")
    run = asked_run(tmp_path / "runs" / "one", dataset=write_images(tmp_path / "images"))
    expect.set_options(timeout=30_000)
    with studio(run.path) as address, sync_playwright() as playwright:
        browser = launched(playwright)
        context = browser.new_context()
        first = context.new_page()
        first.goto(address)
        first.get_by_role("link", name="one", exact=True).click()
        tabs = [first]
        for _ in range(NUM_TABS - 1):
            page = context.new_page()
            page.goto(first.url)
            expect(page.locator("header.bar h1")).to_have_text("one")
            tabs.append(page)
        base, _, query = first.url.partition("?")
        path = f"{base}api/runs/{query.partition('run=')[2].partition('&')[0]}/actions"
        for number, leader in enumerate((first, tabs[1])):  # the tab that has the stream goes, and another takes over
            for page in (*tabs[-2:], leader):
                expect(page.get_by_text("Not connected")).to_have_count(0)
            asked = tabs[-1].request.post(path, data={"what": "checkpoint"})
            assert asked.ok, asked.text()
            for page in tabs[-3:]:
                journal = page.get_by_role("complementary", name="Journal and recipe")
                expect(journal.get_by_text("checkpoint", exact=True)).to_have_count(1 + number)
            leader.close()
        browser.close()
