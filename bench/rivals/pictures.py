"""Training images of 224 pixels from JPEG files, by each loader as its documentation shows it; nothing is trained.

    python bench/rivals/pictures.py pil FOLDER      (pil, v2, webdataset, litdata; pack)

FOLDER holds train/<class>/*.jpg; webdataset and litdata read what `bench/decode.py` packs beside it.
Makes one pass over all images with one worker process, and prints images per second of wall time, and of CPU time
including the worker's but not that of imports. Needs torch and torchvision; webdataset and litdata only for their arms.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if importlib.util.find_spec("litscope"):  # declares two operators that a CPU build of torch may lack
    import litscope  # noqa: F401
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import v2
from turns import say

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pil_transform() -> Any:
    """The transform of torchvision's classification reference."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def v2_transform() -> Any:
    """As torchvision's guide to v2 recommends: uint8 tensors first, float at the end."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def open_image(data: bytes) -> Image.Image:
    """An image of a packed format, decoded for a transform."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def loader(name: str, folder: Path, batch_size: int, num_workers: int) -> Iterable[Any]:
    """One pass over all images."""
    options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
    if name in ("pil", "v2"):
        transform = pil_transform() if name == "pil" else v2_transform()
        data = datasets.ImageFolder(str(folder / "train"), transform)
        return DataLoader(data, shuffle=True, **options)
    if name == "webdataset":
        import webdataset

        shards = str(folder / "shards" / "{000000..000003}.tar")
        packed = webdataset.WebDataset(shards, shardshuffle=4, empty_check=False).shuffle(100).decode("pil")
        return DataLoader(packed.to_tuple("jpg", "cls").map_tuple(pil_transform(), int), **options)
    import litdata

    class Streamed(litdata.StreamingDataset):
        transform_image = pil_transform()

        def __getitem__(self, index: int) -> Any:
            item = super().__getitem__(index)
            return self.transform_image(open_image(item["image"])), item["label"]

    return litdata.StreamingDataLoader(Streamed(str(folder / "litdata"), shuffle=True), **options)


def pack(folder: Path) -> None:
    """Write the images as four tar shards and as a litdata folder, where the two libraries are here."""
    files = sorted((folder / "train").rglob("*.jpg"))
    classes = sorted({path.parent.name for path in files})
    if importlib.util.find_spec("webdataset"):
        import webdataset

        (folder / "shards").mkdir(exist_ok=True)
        for shard in range(4):
            with webdataset.TarWriter(str(folder / "shards" / f"{shard:06}.tar")) as sink:
                for path in files[shard::4]:
                    label = str(classes.index(path.parent.name))
                    sink.write({"__key__": path.stem, "jpg": path.read_bytes(), "cls": label.encode()})
    if importlib.util.find_spec("litdata"):
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(folder / "litdata"), chunk_bytes=16 * 2**20)
        for i, path in enumerate(files):
            writer.add_item(i, {"image": path.read_bytes(), "label": classes.index(path.parent.name)})
        writer.done()
        writer.merge()


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Time a pass, or pack the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["pil", "v2", "webdataset", "litdata", "pack"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-workers", type=int, default=1)
    options = parser.parse_args()
    if options.name == "pack":
        pack(options.folder)
        return
    torch.set_num_threads(1)
    cpu, wall = cpu_s(), time.perf_counter()
    count = sum(
        len(images) for images, _ in loader(options.name, options.folder, options.batch_size, options.num_workers)
    )
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu  # the workers have ended with the pass
    say("end", samples_per_s=count / wall, samples_per_core_s=count / cpu, num_samples=count)


if __name__ == "__main__":
    main()
