"""The suspected label errors of a run in a report: pictures, the label that is given, the class that is believed."""

from __future__ import annotations

import struct

from litscope.errors import LitscopeError
from litscope.studio.report.markup import Html, element, joined, picture
from litscope.studio.report.plots import shortened
from litscope.studio.runs.pages import RunPage
from litscope.studio.samples.review import ReviewItem
from litscope.studio.service import Studio

NUM_SHOWN = 35
SIDE = 112
"""Of a thumbnail, in pixels; smaller images are enlarged without blurring."""
MOST_KEY = 60


def suspect_cards(studio: Studio, run: str, page: RunPage) -> Html:
    """The samples that are ranked first, and how far the ranking can be trusted.

    Raises:
        LitscopeError: if the run has no scores.
    """
    found = studio.review(run, "train" if page.splits.get("train") else next(iter(page.splits), "train"), NUM_SHOWN)
    cards = [_card(studio, run, item, page.has_images) for item in found.items]
    told = [*found.sentences, *([found.warning] if found.warning else [])]
    if not cards:
        return joined([element("p", one) for one in told], element("p", "No label is suspected.", class_="soft"))
    head = (
        f"The first {len(cards)} of {found.num_left:,} samples of {found.split} in the order of suspicion. A rank is a "
        "reason to look, and no verdict."
    )
    return joined(
        element("p", head), [element("p", one, class_="soft") for one in told],
        element("ol", cards, class_="suspects"),
    )  # fmt: skip


def _card(studio: Studio, run: str, item: ReviewItem, has_images: bool) -> Html:
    row = item.sample
    key = _middle(row.key)
    given, believed = row.current_name or "no label", row.believed_name
    p = "" if item.p_label is None else f"p(label) {item.p_label:.2f}"
    doubted = believed is not None and believed != given
    what = [f"given {given}", [", believed ", element("b", believed)] if doubted else None]
    said = element(
        "div",
        element("p", what, title=item.why),
        element("p", f"#{item.rank}", f" · {p}" if p else None, class_="soft"),
        element("p", key, title=row.key, class_="soft"),
        element("p", ", ".join(row.tags) if row.tags else None, class_="soft") if row.tags else None,
        class_="said",
    )
    shot = _shot(studio, run, item, given) if has_images else None
    return element("li", shot, said)


def _shot(studio: Studio, run: str, item: ReviewItem, given: str) -> Html:
    try:
        image = studio.image(run, item.sample.sample_id, SIDE)
    except LitscopeError as error:
        return element("div", element("span", "no picture", title=str(error)), class_="shot")
    small = "small" if _side(image.content) < SIDE else None
    alt = f"{_middle(item.sample.key)}, labelled {given}"
    return element("div", picture(image.content, image.media_type, alt, class_=small), class_="shot")


def _side(png: bytes) -> int:
    """The longer side of a PNG file, as its header has it (ISO/IEC 15948, 11.2.2)."""
    width, height = struct.unpack(">II", png[16:24])
    return int(max(width, height))


def _middle(key: str) -> str:
    """A key without its middle, where it is long."""
    half = MOST_KEY // 2
    return key if len(key) <= MOST_KEY else f"{key[:half]}…{shortened(key[-half:], half)}"
