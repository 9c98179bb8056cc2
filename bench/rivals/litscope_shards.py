"""litscope's loader on shards, and its decoder alone: passes over all samples as uint8 batches, nothing is trained.

    python bench/rivals/litscope_shards.py stream|decode FOLDER_OR_URL

stream is what a training gets, before its device augments it. decode has the bytes of all samples in memory, and
decodes them in as many threads: no order, no batches, no checksums.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from costs import take_turns

from litscope.data.datamodule import ClassificationData
from litscope.data.reading import images
from litscope.data.reading.decoding import open_pool


def main() -> None:
    """Take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["stream", "decode"])
    parser.add_argument("source")
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--side", type=int, required=True, help="of the squares that have to come out")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--num-workers", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--server")
    options = parser.parse_args()
    torch.set_num_threads(1)
    a_pass = (stream if options.name == "stream" else decode)(options)
    take_turns(options.epochs, a_pass, options.server)


def stream(options: argparse.Namespace) -> Callable[[], Iterable[int]]:
    """Training batches."""
    data = ClassificationData(
        options.source,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        image_size=options.pixels,
        cache=False,
        val_split=0.0,
        **({"endpoint_url": options.server} if options.server else {}),
    ).open()
    loader = data.train_dataloader()

    def a_pass() -> Iterable[int]:
        for batch in loader:
            image = batch["image"]
            assert image.dtype == torch.uint8
            assert image.shape[1:] == (3, options.side, options.side), image.shape
            yield len(image)

    return a_pass


def decode(options: argparse.Namespace) -> Callable[[], Iterable[int]]:
    """Nothing but the decoder."""
    contents = []
    for file in sorted(Path(options.source).glob("train-*.tar")):
        with tarfile.open(file) as tar:
            contents += [_content(tar, member) for member in tar if member.name.endswith(".jpg")]
    batches = [contents[at : at + options.batch_size] for at in range(0, len(contents), options.batch_size)]
    pool = open_pool(options.num_workers)

    def one(batch: list[bytes]) -> int:
        for content in batch:
            assert images.decode(content, 3, options.side).shape == (options.side, options.side, 3)
        return len(batch)

    return lambda: pool.map(one, batches)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


if __name__ == "__main__":
    main()
