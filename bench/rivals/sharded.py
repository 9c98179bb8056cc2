"""uint8 batches of images from webdataset's shards, from litdata's chunks, or from a folder; nothing is trained.

    python bench/rivals/sharded.py folder|webdataset|litdata FOLDER_OR_URLS
    python bench/rivals/sharded.py pack FOLDER --to CHUNKS      litdata's `optimize`

Each loader is put together as its documentation shows, with worker processes; all of them end in the same
(B, 3, side, side) uint8, without augmentation. From S3, litdata gets a new loader and an empty cache for each pass, so
that it reads the bucket as the others do; elsewhere the workers stay from pass to pass.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

if importlib.util.find_spec("litscope"):  # declares two operators that a CPU build of torch may lack
    import litscope  # noqa: F401
import torch
from costs import take_turns
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

Make = Callable[[], Iterable[Any]]


def folder(options: argparse.Namespace) -> Make:
    """torchvision's ImageFolder under torch's DataLoader."""
    steps = transforms.Compose([transforms.CenterCrop(options.side), transforms.PILToTensor()])
    data = datasets.ImageFolder(options.source, steps)
    loader = DataLoader(data, shuffle=True, **_workers(options, batch_size=options.batch_size))
    return lambda: loader


def webdataset(options: argparse.Namespace) -> Make:
    """Shards and samples shuffled, decoded, put into batches by the workers, handed over by a WebLoader."""
    import webdataset as wds

    data = (
        wds.WebDataset(options.source, shardshuffle=100)
        .shuffle(1000)
        .decode("torchrgb8")
        .to_tuple("jpg", "cls")
        .map_tuple(transforms.CenterCrop(options.side), int)
        .batched(options.batch_size)
    )
    loader = wds.WebLoader(data, **_workers(options, batch_size=None))
    return lambda: loader


def litdata(options: argparse.Namespace) -> Make:
    """A shuffled StreamingDataset of files' bytes, which Pillow decodes, under a StreamingDataLoader."""
    import litdata

    steps = transforms.Compose([transforms.CenterCrop(options.side), transforms.PILToTensor()])

    class Streamed(litdata.StreamingDataset):
        def __getitem__(self, index: int) -> Any:
            item = super().__getitem__(index)
            return steps(Image.open(io.BytesIO(item["image"])).convert("RGB")), item["label"]

    workers = _workers(options, batch_size=options.batch_size)
    if options.server is None:
        loader = litdata.StreamingDataLoader(Streamed(options.source, shuffle=True), **workers)
        return lambda: loader
    workers.pop("persistent_workers")
    from litdata.streaming import downloader  # which insists on TLS, and loopback has none

    downloader._OBSTORE_CLIENT_OPTIONS = {**downloader._OBSTORE_CLIENT_OPTIONS, "allow_http": True}
    access = {
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "region_name": os.environ["AWS_DEFAULT_REGION"],
    }
    cache = Path(tempfile.mkdtemp(prefix="litdata-", dir=Path.cwd()))

    def make() -> Iterable[Any]:
        shutil.rmtree(cache)
        cache.mkdir()
        storage = {"endpoint_url": options.server, **access}
        data = Streamed(options.source, cache_dir=str(cache), storage_options=storage, shuffle=True)
        return litdata.StreamingDataLoader(data, **workers)

    return make


def _workers(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"num_workers": options.num_workers, "persistent_workers": True, **more}


def sample(path: str) -> dict[str, Any]:
    """What `optimize` writes for one file: its bytes.

    Handed an opened JPEG file, litdata would store the same bytes, and decode them by torchvision.io. Not every
    torchvision can: its extension for images is missing beside some CPU builds of torch.
    """
    classes = sorted(one.name for one in Path(path).parents[1].iterdir())
    return {"image": Path(path).read_bytes(), "label": classes.index(Path(path).parent.name)}


def pack(options: argparse.Namespace) -> None:
    """Write a folder as litdata's chunks, of the same size as the shards."""
    import litdata

    files = [str(path) for path in sorted(Path(options.source).glob("*/*.jpg"))]
    litdata.optimize(sample, files, options.to, chunk_size=options.chunk_size, num_workers=1)


def main() -> None:
    """Take turns, or pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["folder", "webdataset", "litdata", "pack"])
    parser.add_argument("source")
    parser.add_argument("--to")
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("--side", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--num-workers", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--server")
    options = parser.parse_args()
    if options.name == "pack":
        pack(options)
        return
    torch.set_num_threads(1)
    make = {"folder": folder, "webdataset": webdataset, "litdata": litdata}[options.name](options)

    def a_pass() -> Iterable[int]:
        loader = make()

        def counts() -> Iterable[int]:
            for images, _ in loader:
                assert images.dtype == torch.uint8
                assert images.shape[1:] == (3, options.side, options.side), images.shape
                yield len(images)

        return counts()

    take_turns(options.epochs, a_pass, options.server)


if __name__ == "__main__":
    main()
