"""A heatmap laid over the image that it is about. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.pictures.contact_sheet import Pixels, to_rgb

_MOST_COVER = 0.65
"""How much of the image the hottest place hides."""


def heat_over(image: Pixels, heat: npt.NDArray[Any], tile: int) -> npt.NDArray[np.uint8]:
    """The image in gray, under colours that grow from nothing (0) over violet to orange (1).

    Args:
        image: (H, W, K), shown as on a contact sheet.
        heat: (h, w) from 0 to 1, over the same square; between its places it is interpolated.
        tile: side in pixels, as of the sheet: a smaller image is enlarged by the same whole factor, so that the map
            over it is smooth.

    Returns:
        (n H, n W, 3).
    """
    import matplotlib
    from PIL import Image

    picture = Image.fromarray(to_rgb(image)).convert("L").convert("RGB")
    factor = max(1, tile // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    gray = np.asarray(picture.resize(size, Image.Resampling.NEAREST), np.float32)
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    colours = np.asarray(matplotlib.colormaps["inferno"](0.2 + 0.6 * smooth))[..., :3] * 255
    cover = _MOST_COVER * smooth[..., None]
    over: npt.NDArray[np.uint8] = ((1 - cover) * gray + cover * colours).round().astype(np.uint8)
    return over
