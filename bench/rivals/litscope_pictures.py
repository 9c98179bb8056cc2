"""litscope's own loaders on the images of `bench/decode.py`: one decoding thread, one pass, no training.

    python bench/rivals/litscope_pictures.py stream|augment|cache FOLDER

stream yields uint8 squares of 256 pixels, as for a GPU, which crops and flips them; augment does that
too, on the CPU (float32, 224 pixels); cache gathers from the raw cache that an earlier call made.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from turns import say

from litscope.data.datamodule import ClassificationData


def main() -> None:
    """Time one pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["stream", "augment", "cache"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = ClassificationData(
        options.folder,
        batch_size=options.batch_size,
        num_workers=1,
        image_size=224,
        cache=options.name == "cache",
        cache_dir=str(options.folder.parent / "cache"),
        val_split=0.0,
    ).open()
    loader = data.train_dataloader()
    count = 0
    cpu, wall = time.process_time(), time.perf_counter()
    for batch in loader:
        if options.name == "augment":
            batch = data.training_batch(batch, *loader.last)
        count += len(batch["image"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    data.teardown()
    say("end", samples_per_s=count / wall, samples_per_core_s=count / cpu, num_samples=count)


if __name__ == "__main__":
    main()
