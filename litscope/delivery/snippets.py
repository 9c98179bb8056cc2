"""How an exported file is used, in a few lines of Python for each format: for the model card and the documentation.

They need what their first lines import, and nothing that is written into them but the names of two files.
"""

from __future__ import annotations

from typing import Literal

SQUARE = """\
data, size = Path("new.jpg").read_bytes(), about["input"]["size"]
image = Image.open(io.BytesIO(data))
if image.format == "JPEG" and image.mode != "CMYK":  # decoded at a fraction of its size where that is large enough
    exif = image.info.get("exif", b"")
    image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, min_factor=2))
    image.info["exif"] = exif
image = ImageOps.exif_transpose(image)
if image.mode[0] in "IF":  # 16 bits; floats from 0 to 1
    values = np.asarray(image) * (255 if image.mode == "F" else 1 / 257)
    image = Image.fromarray(np.rint(values).astype(np.uint8))
elif image.has_transparency_data:
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
image = image.convert(about["input"]["mode"])
side = min(image.size)
left, top = (image.width - side) // 2, (image.height - side) // 2
square = image.crop((left, top, left + side, top + side))
"""
"""From a file of pixels to the middle of it, as `data.reading.images` reads it."""

_BY_PILLOW = """\
how = Image.Resampling[about["reading"]["interpolation"].upper()]
pixels = np.asarray(square.resize((size, size), how)).reshape(1, size, size, -1)
"""

_BY_TORCH = """\
pixels = torch.tensor(np.asarray(square)).view(1, side, side, -1).permute(0, 3, 1, 2)
pixels = F.interpolate(pixels, size=(size, size), mode=about["reading"]["interpolation"], antialias=True)
"""

_BANDS = """\
array, size = np.load("new.npy"), about["input"]["size"]  # (H, W, K)
side = min(array.shape[:2])
top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
square = array[top : top + side, left : left + side].astype(about["input"]["dtype"])
how = Image.Resampling[about["reading"]["interpolation"].upper()]
bands = [Image.fromarray(band).resize((size, size), how) for band in np.moveaxis(square, 2, 0)]
pixels = np.stack(bands, axis=-1)[None]
"""

_CELLS = """\
def cell(text, column):
    text = text.strip()
    if column["type"] == "category":
        return column["levels"].index(text) if text in column["levels"] else -1
    if column["type"] == "time" and text:  # without a zone, in UTC
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return float({{"true": 1, "false": 0}}.get(text.lower(), text or "nan"))


with open("new.csv", newline="") as file:
    rows = [[cell(row[column["name"]], column) for column in about["columns"]] for row in csv.DictReader(file)]
"""

_TELL = 'best = p[0].argmax()\nprint(about["classes"][best], p[0, best])\n'

_TELL_BY_THRESHOLD = 'best = int(p[0, 1] >= about["readout"]["threshold"])\nprint(about["classes"][best], p[0, best])\n'

_ONNX = """\
session = onnxruntime.InferenceSession("{file}")
about = json.loads(session.get_modelmeta().custom_metadata_map["litscope"])
"""

_PT2 = """\
extra = {{"litscope.json": ""}}
network = torch.export.load("{file}", extra_files=extra).module()
about = json.loads(extra["litscope.json"])
"""

_TEMPLATES = {
    ("onnx", "image"): (
        "import io\nimport json\nfrom pathlib import Path\n\nimport numpy as np\nimport onnxruntime\n"
        "import simplejpeg\nfrom PIL import Image, ImageOps\n\n"
        + _ONNX
        + SQUARE
        + _BY_PILLOW
        + 'p = session.run(None, {{"image": pixels}})[0]  # (1, C)\n'
        + _TELL
    ),
    ("pt2", "image"): (
        "import io\nimport json\nfrom pathlib import Path\n\nimport numpy as np\nimport simplejpeg\nimport torch\n"
        "import torch.nn.functional as F\n"
        "from PIL import Image, ImageOps\n\n"
        + _PT2
        + SQUARE
        + _BY_TORCH
        + "p = network(pixels.permute(0, 2, 3, 1))  # (1, C)\n"
        + _TELL
    ),
    ("safetensors", "image"): (
        "import litscope\n\n"
        'model = litscope.load("{file}")\n'
        'found = model.predict(["new.jpg"])  # or arrays, folders, lists\n'
        "p = found.probabilities  # (1, C)\n"
        "print(found.names[0], found.top(5)[0])\n"
    ),
    ("onnx", "bands"): (
        "import json\n\nimport numpy as np\nimport onnxruntime\nfrom PIL import Image\n\n"
        + _ONNX
        + _BANDS
        + 'p = session.run(None, {{"image": pixels}})[0]  # (1, C)\n'
        + _TELL
    ),
    ("pt2", "bands"): (
        "import json\n\nimport numpy as np\nimport torch\nfrom PIL import Image\n\n"
        + _PT2
        + _BANDS
        + "p = network(torch.from_numpy(pixels))  # (1, C)\n"
        + _TELL
    ),
    ("safetensors", "bands"): (
        "import litscope\n\n"
        'model = litscope.load("{file}")\n'
        'found = model.predict(["new.npy"])  # or arrays, folders, lists\n'
        "p = found.probabilities  # (1, C)\n"
        "print(found.names[0], found.top(5)[0])\n"
    ),
    ("onnx", "table"): (
        "import csv\nimport json\nfrom datetime import datetime, timezone\n\nimport numpy as np\nimport onnxruntime\n\n"
        + _ONNX
        + "\n\n"
        + _CELLS
        + 'p = session.run(None, {{"cells": np.array(rows, np.float64)}})[0]  # (n, C)\n'
        + _TELL
    ),
    ("pt2", "table"): (
        "import csv\nimport json\nfrom datetime import datetime, timezone\n\nimport torch\n\n"
        + _PT2
        + "\n\n"
        + _CELLS
        + "p = network(torch.tensor(rows, dtype=torch.float64))  # (n, C)\n"
        + _TELL
    ),
    ("safetensors", "table"): (
        "import litscope\n\n"
        'model = litscope.load("{file}")\n'
        'found = model.predict("new.csv")  # or an array, a frame\n'
        "p = found.probabilities  # (n, C)\n"
        "print(found.names[0], found.top(5)[0])\n"
    ),
}


Kind = Literal["image", "bands", "table"]
"""What a sample is: a file that Pillow reads, an array of bands (`.npy`), or a row."""


def snippet(to: str, kind: Kind, file: str, has_threshold: bool = False) -> str:
    """Lines that load a file, read a sample and print the class.

    Args:
        to: onnx, pt2 or safetensors.
        file: the name of the exported file.
        has_threshold: of two classes the second is named from a threshold on; litscope does that itself.
    """
    lines = _TEMPLATES[to, kind]
    return (lines.replace(_TELL, _TELL_BY_THRESHOLD) if has_threshold else lines).format(file=file)
