"""Take the pictures of the studio that README and docs show.

    .venv/bin/python scripts/screenshots.py RUN [OTHER_RUN]

RUN is a finished run over images, with some actions in its journal; with another one, the comparison is shown too. The
pictures are small PNG files under docs/images/, each in light and in dark.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

Scheme = Literal["light", "dark"]

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1280, 780
NUM_COLOURS = 128  # of a picture's palette: a third of the bytes, and nobody sees it
MOST_BYTES = 150_000

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def queries(run: str) -> dict[str, str]:
    """The name of each picture, and the address that it shows."""
    train = quote("split = train")
    suspects = f"?run={run}&view=samples&filter={train}&sort=-suspicion"
    return {
        "curves": f"?run={run}",
        "samples": suspects,
        "sample": f"{suspects}&as=rows",
        "review": f"?run={run}&view=review",
        "map": f"?run={run}&view=map&filter={train}",
        "confusion": f"?run={run}&view=confusion",
        "classes": f"?run={run}&view=classes",
        "calibration": f"?run={run}&view=calibration",
    }


def main() -> int:
    """Pictures of every view."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    command = [sys.executable, "-m", "litscope", "studio", *sys.argv[1:], "--port", "0", "--no-browser", "--json"]
    studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = ""
        while "}" not in told or told.count("{") != told.count("}"):
            told += studio.stdout.readline() if studio.stdout else ""
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            schemes: tuple[Scheme, Scheme] = ("light", "dark")
            for scheme in schemes:
                take(browser, json.loads(told)["result"]["address"], scheme)
            browser.close()
    finally:
        studio.terminate()
        studio.wait()
    return 0


def take(browser: Browser, address: str, scheme: Scheme) -> None:
    """All pictures in one colour scheme."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    home = page.url.split("?")[0]
    runs = [line["id"] for line in page.request.get(f"{home}api/runs").json()["runs"]]
    shot(page, f"{home}?", f"runs-{scheme}")
    if len(runs) > 1:
        shot(page, f"{home}?compare={','.join(runs[:2])}", f"compare-{scheme}")
    of_argument = Path(sys.argv[1]).name
    run = next((one for one in runs if one.rpartition("-")[0] == of_argument), runs[0])
    for name, query in queries(run).items():
        shot(page, home + query, f"{name}-{scheme}")
    context.close()


def shot(page: Page, address: str, name: str) -> None:
    """One picture, when everything is there."""
    page.goto(address)
    settled(page)
    if name.startswith("sample-"):
        page.get_by_role("gridcell").nth(1).dblclick()
        page.get_by_role("heading", name="Scores").wait_for()
    if name.startswith("samples-"):
        page.get_by_role("gridcell").nth(2).click()
        page.get_by_role("gridcell").nth(5).click(modifiers=["Shift"])
    if name.startswith("map-"):
        lasso(page)
    settled(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(NUM_COLOURS)
    IMAGES.mkdir(exist_ok=True)
    file = IMAGES / f"studio-{name}.png"
    picture.save(file, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{file} has {file.stat().st_size:,} bytes; {MOST_BYTES:,} are allowed: show less on it.")


def lasso(page: Page) -> None:
    """Draw around a part of the map, and rest on another."""
    corners = [(0.09, 0.60), (0.18, 0.57), (0.24, 0.68), (0.20, 0.80), (0.10, 0.80)]
    page.mouse.move(WIDTH * (0.13 + corners[0][0]), HEIGHT * corners[0][1])
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(WIDTH * (0.13 + x), HEIGHT * y, steps=6)
    page.mouse.up()


def settled(page: Page) -> None:
    """Wait until everything is there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => document.querySelectorAll('.skeletons, .skeleton').length === 0")
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    page.wait_for_timeout(900)  # sparklines come a little later than what they stand beside
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    raise SystemExit(main())
