"""The contact sheet: images in a grid, with a caption below each. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litscope.console import one_line
from litscope.pictures.colours import INK, SECOND_INK, TILE, WHITE
from litscope.pictures.lettering import cut, wrapped
from litscope.rundir import whole_file

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

Pixels = npt.NDArray[Any]

MOST_LINES = 4
"""Of the first line of a caption, the names of classes, which is broken where it is longer than a tile is wide."""
_GAP, _LINE_HEIGHT, _TITLE_HEIGHT = 14, 17, 22


def contact_sheet(
    images: Sequence[Pixels],
    captions: Sequence[str],
    path: Path,
    *,
    columns: int | None = None,
    tile: int = 160,
    title: str | None = None,
) -> None:
    """A grid of images with a caption under each.

    Args:
        images: arrays (H, W) or (H, W, K), of any sizes. uint8 is shown as it is, other types are stretched from
            their 1st to their 99th percentile. One band is gray, two are red and cyan, of more
            the first three are red, green and blue.
        captions: one for each image, of several lines. The first one is broken to fit, the others are cut in their
            middle.
        path: the PNG file.
        columns: images in a row. Default: a little more than there are rows.
        tile: side of a tile in pixels. Small images are enlarged by whole factors, without blurring.
        title: a line above the grid, which is broken to fit.
    """
    from PIL import Image, ImageDraw

    assert len(images) == len(captions) > 0, "a contact sheet needs an image and a caption for each tile"
    columns = min(len(images), columns or _columns(len(images)))
    num_rows = math.ceil(len(images) / columns)
    width = _GAP + columns * (tile + _GAP)
    heads = wrapped(one_line(title), _fits(_font(16, bold=True), width - 2 * _GAP), 6) if title else []
    lines = [_caption_lines(caption, tile) for caption in captions]
    text_height = 6 + _LINE_HEIGHT * max(map(len, lines))
    top = _GAP + (_TITLE_HEIGHT * len(heads) + 8 if heads else 0)
    sheet = Image.new("RGB", (width, top + num_rows * (tile + text_height + _GAP)), WHITE)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(heads):
        draw.text((_GAP, _GAP + number * _TITLE_HEIGHT), line, INK, _font(16, bold=True))
    for number, (image, text) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (tile + _GAP), top + row * (tile + text_height + _GAP)
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill=TILE)
        picture = _fit_in(Image.fromarray(to_rgb(image)), tile)
        sheet.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
        for line_number, (line, is_bold) in enumerate(text):
            colour = INK if is_bold else SECOND_INK
            draw.text((x, y + tile + 4 + line_number * _LINE_HEIGHT), line, colour, _font(13, bold=is_bold))
    with whole_file(path) as file:
        sheet.save(file, format="PNG", optimize=True)


def small_picture(image: Pixels, side: int = 96) -> bytes:
    """An image as a PNG file of at most `side` pixels a side, shown as on a `contact_sheet`."""
    from PIL import Image

    picture = Image.fromarray(to_rgb(image))
    if max(picture.size) > side:
        picture = _fit_in(picture, side)
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _caption_lines(caption: str, width: int) -> list[tuple[str, bool]]:
    """The lines of a caption, each with whether it is bold."""
    first, *others = map(one_line, caption.split("\n"))
    bold = wrapped(first, _fits(_font(13, bold=True), width), MOST_LINES)
    plain = [cut(line, _fits(_font(13), width)) for line in others]
    return [*((line, True) for line in bold), *((line, False) for line in plain)]


def _fits(font: FreeTypeFont, width: int) -> Callable[[str], bool]:
    """Whether a line is at most so many pixels wide."""
    return lambda line: font.getlength(line) <= width


def _columns(num_images: int) -> int:
    """A little more columns than rows, and few empty places in the last row."""
    least = max(3, math.ceil(math.sqrt(num_images)))
    return min(range(least, least + 3), key=lambda columns: (-num_images % columns, columns))


def to_rgb(image: Pixels) -> npt.NDArray[np.uint8]:
    """(H, W) or (H, W, K) of any type -> (H, W, 3) uint8."""
    bands = image[..., None] if image.ndim == 2 else image
    bands = bands[..., : min(3, bands.shape[-1])]
    if bands.dtype != np.uint8:
        bands = _stretch(bands)
    match bands.shape[-1]:
        case 1:
            order = [0, 0, 0]
        case 2:
            order = [0, 1, 1]
        case _:
            order = [0, 1, 2]
    return np.ascontiguousarray(bands[..., order])


def _stretch(bands: Pixels) -> npt.NDArray[np.uint8]:
    """Each band from its 1st to its 99th percentile onto 0..255; what is not a number is black."""
    values = bands.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        return np.zeros(bands.shape, np.uint8)
    low, high = np.nanpercentile(values, [1, 99], axis=(0, 1))
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    pixels: npt.NDArray[np.uint8] = (np.nan_to_num(scaled).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


def _fit_in(picture: Image.Image, tile: int) -> Image.Image:
    """As large as fits in a square of `tile` pixels: enlarged by a whole factor, or reduced smoothly."""
    from PIL import Image

    longest = max(picture.size)
    if longest <= tile:
        factor = tile // longest
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * tile / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@cache
def _font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has Latin, Greek, Cyrillic and arrows."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
