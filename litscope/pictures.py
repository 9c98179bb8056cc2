"""The PNG files of a run: curves, confusion matrix, contact sheet, learning-rate sweep. No torch.

Each function draws one picture and writes it whole. matplotlib is imported inside, used through its
object interface only, so that pyplot's state and the caller's settings stay as they are. Blue
is training or right, orange is validation or wrong.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litscope.console import one_line, say
from litscope.rundir import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

Pixels = npt.NDArray[Any]
Numbers = Sequence[float] | npt.NDArray[np.float64]

BLUE, ORANGE, INK, FAINT = "#1f6fd1", "#e2711d", "#22262b", "#c9ced6"
DPI = 130
MAX_NAME = 22
"""Characters of a class name on an axis."""
_MISSING_SIGN = re.compile(r"Glyph \d+ .*missing from")
"""How matplotlib's warning about a sign begins that the font does not have."""


def curves(epoch_rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss, accuracy and learning rate against the epoch, those of them that were recorded.

    Args:
        epoch_rows: of `metrics/epochs.jsonl`: `epoch` from 0, `train/loss`, `val/loss`,
            `train/accuracy`, `val/accuracy`, `lr`; a missing or null value leaves a gap.
        path: the PNG file.
    """
    panels: list[tuple[str, str, str, Any]] = [
        ("Loss", "train/loss", "val/loss", np.nanargmin),
        ("Accuracy", "train/accuracy", "val/accuracy", np.nanargmax),
        ("Learning rate", "lr", "", None),
    ]
    shown = [panel for panel in panels if any(_column(epoch_rows, name).size for name in panel[1:3])]
    figure = _figure(4.6 * max(1, len(shown)), 3.5)
    epochs = np.array([row["epoch"] + 1 for row in epoch_rows])
    for number, (title, first, second, best) in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), number)
        _style(axes, title, "epoch")
        _epoch_axis(axes, epochs)
        for name, color in ((first, BLUE), (second, ORANGE)):
            values = _column(epoch_rows, name)
            if not values.size:
                continue
            label = name.split("/")[0] if "/" in name else None
            axes.plot(epochs, values, color=color, label=label, lw=1.8, marker="o" if len(epochs) < 12 else "", ms=3.5)
            if name == second and best is not None:
                _mark_best(axes, epochs, values, best)
        if second:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
        else:
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=0)
    _save(figure, path)


def confusion_matrix(matrix: npt.NDArray[Any], classes: Sequence[str], path: Path) -> None:
    """A confusion matrix, coloured by the share of each label; right answers blue, wrong ones orange.

    Args:
        matrix: (C, C) counts; rows are labels, columns predictions. Readable up to some 100 classes.
        classes: (C,) names.
        path: the PNG file.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    counts = np.asarray(matrix, dtype=np.float64)
    num_classes = len(classes)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    is_right = np.eye(num_classes, dtype=bool)
    names = [_shorten(one_line(str(name)), MAX_NAME) for name in classes]
    cell = float(np.interp(num_classes, [2, 10, 20, 50, 100], [1.0, 0.62, 0.46, 0.24, 0.155]))  # inches
    margin = 0.35 + 0.075 * max(map(len, names)) * (1.0 if num_classes <= 20 else 0.8)
    side = cell * num_classes
    figure = _figure(max(side + margin + 0.9, 4.2), max(side + margin + 1.1, 3.6))
    axes = figure.add_subplot()
    scales = (
        ("white", BLUE, is_right, 1.0),
        ("white", ORANGE, ~is_right, 0.4),
    )  # the power makes rare mistakes visible
    for low, high, where, gamma in scales:
        colors = LinearSegmentedColormap.from_list("share", [low, high])
        axes.imshow(np.ma.array(share, mask=~where), cmap=colors, norm=PowerNorm(gamma, 0, 1), aspect="equal")
    size = float(np.interp(num_classes, [2, 10, 20, 50, 100], [10, 9, 8, 6.5, 5.5]))
    as_it_is: dict[str, Any] = {"fontsize": size, "color": INK, "parse_math": False}  # `$` begins no formula in a name
    axes.set_xticks(range(num_classes), names, rotation=90 if num_classes > 4 else 0, **as_it_is)
    axes.set_yticks(range(num_classes), names, **as_it_is)
    edges, width = np.arange(num_classes + 1) - 0.5, 0.8 if num_classes <= 20 else 0.3
    axes.hlines(edges, edges[0], edges[-1], color="#eceff3", lw=width)
    axes.vlines(edges, edges[0], edges[-1], color="#eceff3", lw=width)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if num_classes <= 25:
        _write_counts(axes, counts, share, size * (1.0 if counts.max(initial=0) < 1000 else 0.85))
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("label", color=INK)
    right = counts.trace() / counts.sum() if counts.sum() else 0.0
    axes.set_title(f"{int(counts.sum()):,} samples, {right:.2%} right", loc="left", fontsize=10, color=INK)
    _save(figure, path)


def lr_curve(
    lrs: Sequence[Numbers],
    losses: Sequence[Numbers],
    suggestion: float | None,
    path: Path,
    *,
    smooth: Sequence[Numbers] | None = None,
    spread: tuple[float, float] | None = None,
) -> None:
    """The losses of learning-rate sweeps, on a logarithmic axis, with the suggested rate.

    Args:
        lrs, losses: one (S,) sequence for each sweep; sweeps may differ in length.
        suggestion: the suggested learning rate, or None.
        path: the PNG file.
        smooth: the smoothed losses; then the raw ones are drawn faintly.
        spread: the least and the greatest suggestion of the single sweeps.
    """
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    _style(axes, "Learning-rate sweep", "learning rate")
    axes.set_xscale("log")
    axes.set_ylabel("loss", color=INK)
    for lr, loss in zip(lrs, losses, strict=True):
        axes.plot(
            lr, _finite(loss), color=BLUE, lw=1.6 if smooth is None else 0.8, alpha=0.8 if smooth is None else 0.35
        )
    for lr, loss in zip(lrs, smooth or [], strict=smooth is not None):
        axes.plot(lr, _finite(loss), color=BLUE, lw=1.8)
    _limit_blow_up(axes, losses)
    if spread is not None:
        axes.axvspan(*spread, color=ORANGE, alpha=0.15, lw=0)
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, lw=1.6)
        axes.annotate(
            f"{suggestion:.2g}", (suggestion, 1), xycoords=("data", "axes fraction"), xytext=(5, -12),
            textcoords="offset points", color=ORANGE, fontweight="bold",
        )  # fmt: skip
    else:
        axes.set_title("no suggestion: the loss did not fall", loc="right", fontsize=9, color=ORANGE)
    _save(figure, path)


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
        captions: one for each image; lines are split at newlines and cut to the tile's width.
        path: the PNG file.
        columns: images in a row. Default: a little more than there are rows.
        tile: side of a tile in pixels. Small images are enlarged by whole factors, without blurring.
        title: a line above the grid.
    """
    from PIL import Image, ImageDraw

    assert len(images) == len(captions) > 0, "a contact sheet needs an image and a caption for each tile"
    columns = min(len(images), columns or _columns(len(images)))
    num_rows = math.ceil(len(images) / columns)
    font, bold = _font(13), _font(13, bold=True)
    lines = [caption.split("\n") for caption in captions]
    line_height, gap = 17, 14
    text_height = 6 + line_height * max(map(len, lines))
    top = gap + (30 if title else 0)
    sheet = Image.new("RGB", (gap + columns * (tile + gap), top + num_rows * (tile + text_height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), _fit(title, _font(16, bold=True), sheet.width - 2 * gap), INK, _font(16, bold=True))
    for number, (image, text) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(number, columns)
        x, y = gap + column * (tile + gap), top + row * (tile + text_height + gap)
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill="#f1f3f6")
        picture = _fit_in(Image.fromarray(_to_rgb(image)), tile)
        sheet.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
        for line_number, line in enumerate(text):
            face, color = (bold, INK) if line_number == 0 else (font, "#4d5560")
            draw.text((x, y + tile + 4 + line_number * line_height), _fit(line, face, tile), color, face)
    with whole_file(path) as file:
        sheet.save(file, format="PNG", optimize=True)


def small_picture(image: Pixels, side: int = 96) -> bytes:
    """An image as a PNG file of at most `side` pixels a side, shown as on a `contact_sheet`."""
    from PIL import Image

    picture = Image.fromarray(_to_rgb(image))
    if max(picture.size) > side:
        picture = _fit_in(picture, side)
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


# ---- charts ----------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def _style(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(x_label, color=INK)
    axes.grid(axis="y", color="#eceff3", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _epoch_axis(axes: Axes, epochs: npt.NDArray[Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xticks(epochs)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[np.float64]:
    """One value per row with NaN in the gaps; empty if no row has a finite value."""
    values = _finite([np.nan if row.get(name) is None else row[name] for row in rows])
    return values if np.isfinite(values).any() else np.empty(0)


def _finite(values: Numbers) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _mark_best(axes: Axes, epochs: npt.NDArray[Any], values: npt.NDArray[np.float64], best: Any) -> None:
    at = int(best(values))
    axes.plot(epochs[at], values[at], "o", color=ORANGE, ms=7, mec="white", mew=1.2, zorder=5)
    axes.set_title(f"best {values[at]:.4g}, epoch {epochs[at]}", loc="right", fontsize=9, color=ORANGE)


def _limit_blow_up(axes: Axes, losses: Sequence[Numbers]) -> None:
    """Where a sweep diverges its losses dwarf everything: show up to twice the height at which it began."""
    finite = [values[np.isfinite(values)] for values in map(_finite, losses)]
    finite = [values for values in finite if values.size]
    if not finite:
        return
    start = max(float(np.median(values[: max(5, len(values) // 10)])) for values in finite)
    low, high = min(float(v.min()) for v in finite), max(float(v.max()) for v in finite)
    ceiling = start + max(0.6 * (start - low), 0.1 * abs(start))
    if high > ceiling:
        axes.set_ylim(low - 0.08 * (ceiling - low), ceiling)


def _write_counts(axes: Axes, counts: npt.NDArray[np.float64], share: npt.NDArray[np.float64], size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            strength = share[row, column] if row == column else share[row, column] ** 0.4
            color = "white" if strength > 0.55 else INK
            axes.text(column, row, f"{int(count)}", ha="center", va="center", fontsize=size, color=color)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure. Signs that the font lacks are drawn as boxes: one line says so, not a warning for each."""
    with whole_file(path) as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, format="png", dpi=DPI)
    others = [warning for warning in caught if not _MISSING_SIGN.match(str(warning.message))]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if len(others) < len(caught):
        say(
            f"{path}: the font has no signs for some of the names, so they are boxes there; "
            "`font.family` in a matplotlibrc names another font"
        )


# ---- contact sheet ---------------------------------------------------------------------------


def _columns(num_images: int) -> int:
    """A little more columns than rows, and few empty places in the last row."""
    least = max(3, math.ceil(math.sqrt(num_images)))
    return min(range(least, least + 3), key=lambda columns: (-num_images % columns, columns))


def _to_rgb(image: Pixels) -> npt.NDArray[np.uint8]:
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


def _font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has Latin, Greek, Cyrillic and arrows."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _fit(text: str, font: FreeTypeFont, width: int) -> str:
    """`text`, cut in the middle to `width` pixels: the ends of paths and names tell the most."""
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 1 and font.getlength(_shorten(text, keep)) > width:
        keep -= 1
    return _shorten(text, keep)


def _shorten(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
