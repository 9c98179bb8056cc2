"""What a person does with each view of the studio, in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from studio_browser import AXE, CHROMIUM, Watched, answer, id_of, studio

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]

expect.set_options(timeout=60_000)  # of a machine that does much else


@pytest.fixture(scope="module")
def two_runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs; what is asked of one stands in its journal."""
    runs = tmp_path_factory.mktemp("by-hand")
    for name in ("one", "two"):
        shutil.copytree(finished, runs / name)
    return runs


@pytest.fixture(scope="module")
def address(two_runs: Path) -> Iterator[str]:
    with studio(two_runs) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, address: str) -> Iterator[Watched]:
    """A fresh tab with the first run open. Nothing may have failed in it at the end."""
    found = Watched(browser, address)
    found.page.get_by_role("link", name="one", exact=True).click()
    expect(found.page.get_by_role("img", name="train/loss: from").first).to_be_visible()
    yield found
    faults = list(found.faults)
    found.context.close()
    assert faults == []


def told(page: Page) -> Locator:
    return page.get_by_role("log").locator(".message")


def drag(page: Page, box: Locator, corners: list[tuple[float, float]]) -> None:
    """Press at the first corner, move over the others, let go; corners as shares of the box."""
    bounds = box.bounding_box()
    assert bounds is not None
    places = [(bounds["x"] + x * bounds["width"], bounds["y"] + y * bounds["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_curves_by_step_epoch_and_time_smoothed_and_logarithmic_and_brushed_for_samples(watched: Watched) -> None:
    page = watched.page
    plot = page.get_by_role("figure", name="loss", exact=True)
    titles = page.locator(".plot h2").all_inner_texts()
    assert titles[:2] == ["loss", "accuracy"]
    page.get_by_role("combobox", name="x").select_option("epoch")
    expect(plot.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"val/loss: .* at [1-8](,|\.)"))
    page.get_by_role("combobox", name="x").select_option("time")
    page.get_by_label("log scale").check()
    slider = page.get_by_label("smoothing")
    slider.focus()
    page.keyboard.press("End")
    assert {"x=time", "log=1", "smooth=0.98"} <= set(page.url.partition("?")[2].split("&"))
    page.reload()
    expect(page.get_by_label("log scale")).to_be_checked()
    expect(page.get_by_role("combobox", name="x")).to_have_value("time")
    page.get_by_role("combobox", name="x").select_option("step")

    drag(page, plot.locator(".u-over"), [(0.2, 0.5), (0.5, 0.5)])
    brushed = page.get_by_role("status").filter(has_text="steps")
    expect(brushed).to_be_visible()
    brushed.get_by_role("button", name="Open their samples").click()
    expect(page.get_by_label("Filter", exact=True)).to_have_value(re.compile(r"^steps\(\d+, \d+\)$"))
    rows = answer(
        page,
        f"runs/{id_of(page)}/samples?filter={page.get_by_label('Filter', exact=True).input_value()}"
        "&sort=-step_loss&columns=step_loss&count=5",
    )["rows"]
    losses = [row["values"]["step_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True), "those that made a spike come first"
    expect(page.get_by_role("gridcell").first).to_contain_text(rows[0]["key"])


def test_samples_are_chosen_by_click_shift_drag_and_all_and_acted_on_by_keys(watched: Watched) -> None:
    page = watched.page
    watched.go(f"?run={id_of(page)}&view=samples&filter=split+%3D+train&sort=-mean_loss")
    cells, chosen = page.get_by_role("gridcell"), page.locator(".selected")
    expect(cells.nth(12)).to_contain_text("label ")
    cells.nth(1).click()
    cells.nth(3).click(modifiers=["Control"])
    expect(chosen).to_contain_text("2 of")
    cells.nth(8).click(modifiers=["Shift"])
    expect(chosen).to_contain_text("6 of")
    first, last = cells.nth(0).bounding_box(), cells.nth(2).bounding_box()
    assert first is not None
    assert last is not None
    page.mouse.move(first["x"] + 20, first["y"] + 30)
    page.mouse.down()
    page.mouse.move(last["x"] + 40, last["y"] + 60, steps=5)
    page.mouse.up()
    expect(chosen).to_contain_text("3 of")
    before = [cells.nth(i).inner_text() for i in range(6)]

    page.keyboard.press("1")
    expect(told(page).last).to_contain_text(re.compile("Tag 3 samples: "))
    page.keyboard.press("r")
    dialog = page.get_by_role("dialog", name="Relabel 3 samples")
    assert AXE.is_file() is False or watched.axe() == []
    dialog.get_by_label("Search").fill("7")
    page.keyboard.press("Enter")
    expect(told(page).last).to_contain_text("Relabel 3 samples to 7")
    page.get_by_label("Note for the next action").fill("looked at")
    page.get_by_role("grid").focus()
    page.keyboard.press("x")
    expect(told(page).last).to_contain_text("Discard 3 samples")
    expect(page.locator(".cell.is-discarded")).to_have_count(3)
    now = [cells.nth(i).inner_text() for i in range(6)]
    keys = [text.split(",")[0] for text in before]
    assert [text.split(",")[0] for text in now] == keys, "what is under the pointer does not move"
    expect(page.get_by_role("button", name="newer values")).to_be_visible()
    told(page).last.get_by_role("button", name="Undo").click()
    expect(page.locator(".cell.is-discarded")).to_have_count(0)

    page.keyboard.press("/")
    expect(page.get_by_label("Filter", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.get_by_role("complementary", name="What these samples are")).to_be_visible()
    assert "facets=1" in page.url
    page.keyboard.press("?")
    legend = page.get_by_role("dialog", name="Keys")
    for meaning in ("discard", "undo the last action", "keep: tag as ok", "relabel", "search or filter", "next"):
        expect(legend.get_by_text(meaning).first).to_be_visible()
    assert AXE.is_file() is False or watched.axe() == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Run", exact=True).click()
    done = page.get_by_role("complementary", name="Journal and recipe").get_by_role("listitem")
    expect(done.filter(has_text="discard 3 samples").first).to_contain_text("looked at")


def test_sorting_by_any_column_as_rows_and_going_back(watched: Watched) -> None:
    page = watched.page
    watched.go(f"?run={id_of(page)}&view=samples&as=rows")
    head = page.get_by_role("columnheader", name="mean loss")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    first = page.get_by_role("row").nth(1).inner_text()
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.get_by_role("row").nth(1)).not_to_have_text(first)
    page.go_back()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert page.locator(".grid-space").evaluate("(one) => one.children.length") < 80, "only rows in sight are there"


def test_the_map_shows_what_is_hovered_and_its_lasso_opens_what_it_holds(watched: Watched) -> None:
    page = watched.page
    watched.go(f"?run={id_of(page)}&view=map&filter=split+%3D+train")
    plane = page.get_by_role("img", name=re.compile("^Map. "))
    bounds = plane.bounding_box()
    assert bounds is not None
    near = page.locator(".map-near img")
    for share in (0.06, 0.10, 0.16, 0.24, 0.34):  # well learned samples are at the top, on the left
        page.mouse.move(bounds["x"] + bounds["width"] * share, bounds["y"] + 34, steps=3)
        with page.expect_response("**/map/near?*"):
            page.mouse.move(bounds["x"] + bounds["width"] * share + 1, bounds["y"] + 34)
        if near.count():
            break
    expect(near.first).to_be_visible()
    drag(page, plane, [(0.05, 0.02), (0.6, 0.02), (0.6, 0.6), (0.05, 0.6)])
    inside = page.get_by_role("status").filter(has_text="inside")
    expect(inside).to_contain_text(re.compile(r"\d samples? inside"))
    num = int(re.sub(r"\D", "", inside.locator("span").inner_text()))
    inside.get_by_role("button", name="Open them").click()
    expect(page.locator(".selected")).to_contain_text(f"{num:,} samples of")
    assert "inside%28variability%2C+confidence%2C" in page.url
    page.go_back()
    page.get_by_label("colour").select_option(label="label")
    expect(page.locator(".map-key li")).to_have_count(10)
    plane.focus()
    page.keyboard.press("+")
    assert "box=" in page.url
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("Table", exact=True).click()
    expect(page.locator(".regions td button").first).to_be_visible()


def test_tables_open_their_samples(watched: Watched) -> None:
    page = watched.page
    run = id_of(page)
    watched.go(f"?run={run}&view=confusion&split=train")
    cell = page.get_by_role("button", name=re.compile(r"^(\d) predicted as \1: [1-9]")).first
    name = cell.get_attribute("aria-label") or ""
    cell.click()
    expect(page.get_by_label("Filter", exact=True)).to_have_value(re.compile("split = train"))
    num = int(re.sub(r"\D", "", name.split(":")[1]))
    expect(page.locator(".selected")).to_contain_text(f"{num:,} samples")
    watched.go(f"?run={run}&view=classes")
    page.get_by_role("table").get_by_role("button", name="3", exact=True).first.click()
    expect(page.get_by_role("gridcell").first).to_contain_text("label 3")
    watched.go(f"?run={run}&view=calibration")
    expect(page.get_by_role("img", name=re.compile("^Reliability diagram"))).to_be_visible()
    page.get_by_role("button", name="Wrong, and surest of it").click()
    expect(page.get_by_label("Filter", exact=True)).to_have_value(re.compile("not is_right"))


def test_a_sample_has_a_large_picture_a_history_and_its_actions(watched: Watched) -> None:
    page = watched.page
    watched.go(f"?run={id_of(page)}&view=samples&sample=5")
    drawer = page.get_by_role("complementary", name="Sample")
    expect(drawer.locator("img.pixelated")).to_be_visible()
    drawer.get_by_role("button", name="Larger").click()
    expect(drawer.locator("output")).to_have_text("150 %")
    expect(drawer.get_by_role("img", name=re.compile(r"^p\(label\): from"))).to_be_visible()
    drawer.get_by_text("suspicion", exact=True).first.click()
    expect(drawer.get_by_text(re.compile("^Rank ")).filter(visible=True).first).to_be_visible()


def test_edits_of_validation_samples_are_warned_of_before_they_happen(watched: Watched) -> None:
    page = watched.page
    run = id_of(page)
    watched.go(f"?run={run}&view=samples&filter=split+%3D+val")
    expect(page.get_by_role("gridcell").first).to_contain_text("label ")
    page.get_by_role("gridcell").first.click()
    page.keyboard.press("x")
    question = page.get_by_role("dialog", name="Before you go on")
    expect(question).to_contain_text("val")
    question.get_by_role("button", name="Cancel").click()
    assert answer(page, f"runs/{run}/samples?filter=split+%3D+val+and+is_discarded")["total"] == 0
    page.keyboard.press("x")
    question.get_by_role("button", name="Go on").click()
    expect(told(page).last).to_contain_text("Discard 1 sample")
    expect(page.locator(".cell.is-discarded")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator(".cell.is-discarded")).to_have_count(0)


def test_twenty_verdicts_tell_whether_to_go_on(watched: Watched) -> None:
    page = watched.page
    watched.go(f"?run={id_of(page)}&view=review")
    side = page.get_by_role("complementary", name="How the ranking does")
    expect(page.locator(".review-main .tools")).to_contain_text(re.compile("About .* labels? looks? wrong"))
    suspect = page.get_by_role("region", name="Suspected label error").get_by_role("heading")
    for _ in range(20):
        before = suspect.inner_text()
        page.keyboard.press("k")
        expect(suspect).not_to_have_text(before)
    expect(side).to_contain_text("Of the last 20 labels 0 was wrong: what comes now is hardly worth the time.")
    expect(side.get_by_role("img", name="the last 20: 0 wrong labels")).to_be_visible()


def test_twotwo_runs_beside_each_other(watched: Watched) -> None:
    page = watched.page
    page.get_by_role("link", name="All runs").click()
    for name in ("one", "two"):
        page.get_by_role("checkbox", name=f"compare {name}").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare 2 runs")).to_be_visible()
    expect(
        page.get_by_role("img", name=re.compile("^one: from .* two: from|^two: from .* one: from")).first
    ).to_be_visible()
    expect(page.get_by_role("heading", name="Samples whose fate differs")).to_be_visible()
    page.get_by_role("combobox", name="x").select_option("step")
    assert "x=step" in page.url
    assert AXE.is_file() is False or watched.axe() == []


def test_what_is_on_its_way_has_its_form_and_what_failed_says_so(watched: Watched) -> None:
    page = watched.page
    held: list[Route] = []
    page.route("**/samples?*", lambda route: held.append(route))
    page.get_by_role("link", name="Samples").click()
    expect(page.get_by_role("status", name="Loading")).to_be_visible()
    while not held:
        page.wait_for_timeout(50)
    held[-1].fulfill(
        status=500, json={"error": {"type": "RunError", "message": "The disk has gone.", "position": None}}
    )
    expect(page.get_by_role("alert")).to_contain_text("The disk has gone.")
    page.unroute("**/samples?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("gridcell").first).to_contain_text("label ")
    watched.faults = [fault for fault in watched.faults if "500" not in fault]


def test_looking_only(browser: Browser, two_runs: Path) -> None:
    with studio(two_runs, options=("--read-only",)) as address:
        looking = Watched(browser, address)
        page = looking.page
        page.get_by_role("link", name="two", exact=True).click()
        expect(page.get_by_text("read only").first).to_be_visible()
        looking.go(f"?run={id_of(page)}&view=samples")
        expect(page.get_by_role("gridcell").first).to_contain_text("label ")
        page.keyboard.press("x")
        expect(told(page)).to_have_count(0)
        assert looking.faults == []
        looking.context.close()
