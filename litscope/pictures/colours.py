"""The colours of all pictures: blue is training or right, orange is validation or wrong.

Text has a contrast of 4.5 or more to what it stands on, which is level AA of the Web Content Accessibility Guidelines
(WCAG 2.2, success criterion 1.4.3). Orange lines and cells have less to white, so orange text is darker than they are.
"""

from __future__ import annotations

Rgb = tuple[int, int, int]

WHITE, BLACK = "#ffffff", "#000000"
BLUE, ORANGE = "#1f6fd1", "#e2711d"
ORANGE_TEXT = "#b4530f"
INK, SECOND_INK = "#22262b", "#4d5560"
FAINT, GRID, TILE = "#c9ced6", "#eceff3", "#f1f3f6"
"""Lines of axes, lines behind them, and what stands around an image."""

LEAST_CONTRAST = 4.5
"""Of text to its background."""


def rgb(colour: str) -> Rgb:
    """`#1f6fd1` as numbers from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def contrast(one: Rgb, other: Rgb) -> float:
    """The contrast ratio of two colours, from 1 to 21, as WCAG 2.2 defines it.

    >>> round(contrast(rgb(BLACK), rgb(WHITE)), 2)
    21.0
    """
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def text_on(background: Rgb) -> str:
    """Black or white, whichever is read better: on any background one of them has a contrast of 4.58 or more."""
    return max((BLACK, WHITE), key=lambda colour: contrast(rgb(colour), background))


def _luminance(colour: Rgb) -> float:
    """The relative luminance of an sRGB colour, from 0 to 1."""
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for share in (value / 255 for value in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
