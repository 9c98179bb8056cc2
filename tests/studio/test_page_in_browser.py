"""The page of the studio in a real Chromium, over real runs: one that trains, and one that has finished."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from studio_browser import AXE, CHROMIUM, Watched, answer, command_of_fit, id_of, studio, write_mnist

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]

VIEWS = ("curves", "samples", "review", "map", "confusion", "classes", "calibration")
WAIT_MS = 120_000
expect.set_options(timeout=60_000)  # of a machine that does much else


def test_look_and_act_while_it_trains(browser: Browser, tmp_path: Path, shared_data: Path) -> None:
    planted = write_mnist(shared_data, tmp_path / "digits.npz")
    run = tmp_path / "runs" / "live"
    run.parent.mkdir()
    training = subprocess.Popen(
        command_of_fit(tmp_path / "digits.npz", run, "--epochs", "2000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with studio(tmp_path / "runs") as address:
            watched = Watched(browser, address)
            page = watched.page
            page.get_by_role("link", name="live", exact=False).first.click(timeout=WAIT_MS)
            bar = page.locator("header.bar")
            expect(bar.get_by_text("running")).to_be_visible(timeout=WAIT_MS)

            curve_moves(page)
            pause_and_go_on(page)
            change_the_learning_rate(page)
            refused = [fault for fault in watched.faults if "400" in fault]
            assert len(refused) == 2, "the answer, and the console's line about it"
            watched.faults = [fault for fault in watched.faults if fault not in refused]
            discarded = discard_the_suspects(page)
            assert len(set(discarded) & set(planted)) >= 3, "by chance it would be none: these are the suspects"
            they_leave_the_next_epoch(page, discarded)
            undo_brings_them_back(page)

            before = page.url
            page.reload()
            expect(page.get_by_label("Filter", exact=True)).to_have_value("split = train")
            expect(page.get_by_role("gridcell").first).to_be_visible()
            assert page.url == before

            metrics_are_marked_from_an_edit_of_validation_samples_on(page)
            page.get_by_role("button", name="Stop", exact=True).click()
            page.get_by_role("button", name="Stop the run").click()
            assert training.wait(timeout=120) == 0
            expect(bar.locator(".state")).not_to_contain_text("running", timeout=WAIT_MS)
            assert watched.faults == []
            watched.context.close()
    finally:
        training.kill()
        told = training.communicate()[0]
    assert "Traceback" not in told


def curve_moves(page: Page) -> None:
    curve = page.get_by_role("img", name="train/loss: from").first
    first = curve.get_attribute("aria-label")
    page.wait_for_function(
        "([before]) => [...document.querySelectorAll('.plot-box')].some("
        "(one) => one.ariaLabel.startsWith('train/loss: from') && one.ariaLabel !== before)",
        arg=[first],
        timeout=WAIT_MS,
    )


def pause_and_go_on(page: Page) -> None:
    bar = page.locator("header.bar")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("log").get_by_text("Pause")).to_be_visible()
    expect(bar.locator(".state")).to_contain_text("paused", timeout=WAIT_MS)
    run = id_of(page)
    step = answer(page, f"runs/{run}")["line"]["step"]
    page.wait_for_timeout(1500)  # so long it would have gone on
    assert answer(page, f"runs/{run}")["line"]["step"] == step
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(bar.locator(".state")).to_contain_text("running", timeout=WAIT_MS)


def change_the_learning_rate(page: Page) -> None:
    page.keyboard.press("l")
    dialog = page.get_by_role("dialog", name="Live settings")
    row = dialog.get_by_role("row").filter(has=page.get_by_role("rowheader", name=re.compile("^lr ?a number")))
    row.get_by_label("new lr").fill("0.00077")
    row.get_by_role("button", name="Set").click()
    expect(row.get_by_role("cell").first).to_have_text("0.0008", timeout=WAIT_MS)  # applied
    expect(row).not_to_contain_text("waiting")
    row.get_by_label("new lr").fill("-1")
    row.get_by_role("button", name="Set").click()
    expect(row.get_by_role("alert")).to_contain_text("above 0")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("complementary", name="Journal and recipe")).to_contain_text("lr")


def discard_the_suspects(page: Page) -> list[int]:
    page.get_by_role("link", name="Samples").click()
    page.get_by_label("Filter", exact=True).fill("split = train")
    page.keyboard.press("Enter")
    cells = page.get_by_role("gridcell")
    expect(cells.nth(25)).to_contain_text("label ")
    run = id_of(page)
    cells.nth(0).click()
    cells.nth(19).click(modifiers=["Shift"])
    expect(page.get_by_text("20 of")).to_be_visible()
    page.keyboard.press("x")
    message = page.get_by_role("log").locator(".message").filter(has_text="Discard 20 samples")
    expect(message).to_contain_text("Applied at step", timeout=WAIT_MS)
    expect(page.locator(".cell.is-discarded")).to_have_count(20)
    found = answer(page, f"runs/{run}/samples?filter=is_discarded&count=100")
    assert found["total"] == 20
    return [row["sample_id"] for row in found["rows"]]


def they_leave_the_next_epoch(page: Page, discarded: list[int]) -> None:
    run = id_of(page)
    applied = next(one for one in answer(page, f"runs/{run}/journal")["actions"] if one["what"] == "discard")
    deadline = 200
    while answer(page, f"runs/{run}")["line"]["epoch"] < applied["epoch"] + 3:
        page.wait_for_timeout(300)
        deadline -= 1
        assert deadline, "no further epoch"
    kept = answer(page, f"runs/{run}/samples?filter=split+%3D+train+and+not+is_discarded&count=1")["rows"][0][
        "sample_id"
    ]
    for sample in [*discarded, kept]:
        visits = answer(page, f"runs/{run}/samples/{sample}")["visits"]
        later = [epoch for epoch in visits["epoch"] if epoch > applied["epoch"] + 1]
        assert bool(later) == (sample == kept), (sample, visits["epoch"])


def undo_brings_them_back(page: Page) -> None:
    page.keyboard.press("u")
    expect(page.locator(".cell.is-discarded")).to_have_count(0, timeout=WAIT_MS)
    expect(page.get_by_role("log")).to_contain_text("Undo")


def metrics_are_marked_from_an_edit_of_validation_samples_on(page: Page) -> None:
    page.get_by_label("Filter", exact=True).fill("split = val")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter", exact=True)).to_have_value("split = val")
    expect(page.locator(".selected")).to_contain_text("360 samples of")
    page.get_by_role("gridcell").first.click()
    page.keyboard.press("x")
    question = page.get_by_role("dialog", name="Before you go on")
    expect(question).to_contain_text("1 sample of val: metrics before and after this edit cannot be compared")
    question.get_by_role("button", name="Go on").click()
    page.get_by_role("link", name="Run", exact=True).click()
    expect(page.locator(".note-warning")).to_contain_text("cannot be compared", timeout=WAIT_MS)
    assert answer(page, f"runs/{id_of(page)}/curves")["edits_from_x"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_there_for_everybody(browser: Browser, finished: Path, scheme: str) -> None:
    """axe has nothing against any view; nothing fails, nothing is asked of another host; colours are the system's."""
    if not AXE.is_file() and "CI" not in os.environ:
        pytest.skip("axe-core is not here: make lint fetches it")
    with studio(finished) as address:
        watched = Watched(browser, address, color_scheme=scheme)
        page = watched.page
        expect(page.get_by_role("link", name="mnist", exact=True)).to_be_visible()
        assert watched.axe() == []
        page.get_by_role("link", name="mnist", exact=True).click()
        run = id_of(page)
        looks = [f"?run={run}&view={view}" for view in VIEWS]
        for query in [*looks, f"?run={run}&view=samples&as=rows&facets=1&sample=3"]:
            watched.go(query)
            page.wait_for_load_state("networkidle")
            expect(page.locator(".skeletons, .trouble")).to_have_count(0)
            assert watched.axe() == [], query
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert (light > 200) == (scheme == "light")
        assert watched.faults == []
        watched.context.close()


def test_review_by_keyboard_alone_and_by_its_accessibility_tree(browser: Browser, finished: Path) -> None:
    with studio(finished) as address:
        watched = Watched(browser, address)
        page = watched.page
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Skip to the content")).to_be_focused()
        page.get_by_role("link", name="mnist", exact=True).focus()
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Review").focus()
        page.keyboard.press("Enter")
        suspect = page.get_by_role("region", name="Suspected label error")
        expect(suspect).to_be_focused()
        verdicts = suspect.get_by_role("group", name="Verdict")
        expect(verdicts.get_by_role("button")).to_have_count(4)
        heading = suspect.get_by_role("heading", name=re.compile("^Suspect 1: labelled . believed ."))
        tree = watched.accessibility_tree()
        names = {(node["role"], node["name"]) for node in tree}
        assert ("region", "Suspected label error") in names
        assert ("complementary", "How the ranking does") in names
        for wanted in (
            "^It is . keep the label K$",
            "^It is . relabel Y$",
            "^Neither discard it X$",
            "^Later not sure S$",
        ):
            assert [1 for role, name in names if role == "button" and re.match(wanted, name)], wanted
        pictures = [node["name"] for node in tree if node["role"] == "image"]
        assert any(re.search("labelled .$", name) for name in pictures)
        assert sum(name.startswith("typical ") for name in pictures) >= 8
        assert all(node["name"] for node in tree if node["role"] in ("button", "link", "image", "combobox", "region"))
        seen = []
        for key, told in [("y", "Relabel 1 sample to believed"), ("k", "Tag 1 sample: ok"), ("x", "Discard 1 sample")]:
            before = suspect.get_by_role("heading").inner_text()
            seen.append(before)
            page.keyboard.press(key)
            expect(page.get_by_role("log")).to_contain_text(told)
            expect(suspect.get_by_role("heading")).not_to_have_text(before)
        assert len(set(seen)) == 3
        expect(page.get_by_role("complementary", name="How the ranking does")).to_contain_text("3 verdicts")
        page.keyboard.press("u")
        expect(page.get_by_role("log")).to_contain_text("Undo")
        page.keyboard.press("?")
        legend = page.get_by_role("dialog", name="Keys")
        expect(legend).to_contain_text("the label is wrong")
        page.keyboard.press("Escape")
        expect(legend).to_have_count(0)
        assert heading.count() <= 1
        assert watched.faults == []
        watched.context.close()


def test_the_grid_by_keyboard_pointer_and_address(browser: Browser, finished: Path) -> None:
    with studio(finished) as address:
        watched = Watched(browser, address)
        page = watched.page
        page.get_by_role("link", name="mnist", exact=True).click()
        run = id_of(page)
        watched.go(f"?run={run}&view=samples&filter=split+%3D+train&sort=-mean_loss")
        grid = page.get_by_role("grid", name="Samples")
        expect(grid.get_by_role("gridcell").first).to_contain_text("label ")
        total = answer(page, f"runs/{run}/samples?filter=split+%3D+train")["total"]
        columns = int(grid.get_attribute("aria-colcount") or 0)
        assert int(grid.get_attribute("aria-rowcount") or 0) == -(-total // columns)

        grid.focus()
        page.keyboard.press("ArrowRight")
        assert grid.get_attribute("aria-activedescendant") == "sample-at-1"
        page.keyboard.press("Shift+ArrowDown")
        expect(page.get_by_text(f"{columns + 1} of {total:,} selected")).to_be_visible()
        page.keyboard.press("End")
        expect(page.locator(f"#sample-at-{total - 1}")).to_be_visible()
        page.keyboard.press("Control+a")
        expect(page.get_by_text(f"{total:,} of {total:,} selected")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Home")

        page.keyboard.press("Enter")
        drawer = page.get_by_role("complementary", name="Sample")
        expect(drawer.get_by_role("heading").first).to_be_visible()
        assert "sample=" in page.url
        first = page.url
        page.keyboard.press("ArrowRight")
        page.wait_for_function("(before) => location.href !== before", arg=first)
        page.reload()
        expect(drawer.get_by_text("Scores")).to_be_visible()

        page.get_by_label("Filter", exact=True).fill("mean_loss >>> 1")
        expect(page.locator("#filter-told.refused")).not_to_be_empty()
        assert all(fault.startswith("400 ") or "400 (Bad Request)" in fault for fault in watched.faults)
        watched.context.close()


def test_names_from_a_data_set_are_text(browser: Browser, tmp_path: Path) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for label in ("<img src=x onerror=alert(1)>", "a&amp;b <b>bold</b>"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(12):
            name = f"{number} <script>alert(2)<>.png".replace("/", "")
            Image.fromarray(draw.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "data" / label / name)
    run = tmp_path / "runs" / "names"
    fit = [sys.executable, "-m", "litscope", "fit", str(tmp_path / "data"), "--run-dir", str(run), "--epochs", "2"]
    subprocess.run([*fit, "--no-progress", "--val-split", "0.25"], check=True, capture_output=True)
    with studio(run) as address:
        watched = Watched(browser, address)
        page = watched.page
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.get_by_role("link", name="names", exact=True).click()
        run_id = id_of(page)
        for view in VIEWS:
            watched.go(f"?run={run_id}&view={view}{'&sample=1&facets=1' if view == 'samples' else ''}")
            page.wait_for_load_state("networkidle")
            expect(page.locator(".skeletons, .trouble")).to_have_count(0)
            assert page.evaluate("document.querySelectorAll('#page script, #page b b, #page img[src=x]').length") == 0
        watched.go(f"?run={run_id}&view=classes&split=train")
        page.get_by_role("button", name="<img src=x onerror=alert(1)>").first.click()
        expect(page.get_by_text("9 samples of 24")).to_be_visible()
        assert dialogs == []
        assert watched.faults == []
        watched.context.close()


def test_a_phone_an_empty_folder_and_a_studio_that_has_gone(browser: Browser, finished: Path, tmp_path: Path) -> None:
    with studio(finished) as address:
        watched = Watched(browser, address, color_scheme="light")
        page = watched.page
        page.set_viewport_size({"width": 360, "height": 720})
        page.get_by_role("link", name="mnist", exact=True).click()
        run = id_of(page)
        for view in VIEWS:
            watched.go(f"?run={run}&view={view}")
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert watched.faults == []
    expect(page.get_by_text("Not connected")).to_be_visible()
    watched.context.close()
    (tmp_path / "nothing").mkdir()
    with studio(tmp_path / "nothing") as address:
        watched = Watched(browser, address)
        expect(watched.page.get_by_text("No runs here yet")).to_be_visible()
        watched.go("?run=none-123456&view=map")
        expect(watched.page.get_by_role("alert")).to_be_visible()
        watched.context.close()
