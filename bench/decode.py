"""Images per second and core on the way from JPEG files to batches of 224 pixels, beside the usual loaders.

The pictures: 500 x 375 mosaics of CIFAR-10 photographs, each enlarged to 64 x 64 (bicubic), saved as JPEG of quality
95, about 70 kB each. Every arm makes one pass over all of them in a process of its own, with one worker (litscope: one
thread). What counts is CPU time, including that of workers but not of imports, so a busy machine changes little. The
rivals deliver normalised float32 after RandomResizedCrop and flip. litscope's first arm delivers uint8 squares of 256
pixels, for a GPU to crop and flip; the second does that on the CPU too.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import tasks
from environments import NotInstalled, python_of
from harness import RATE, Arm, Bench, Context, Figure
from PIL import Image
from processes import environment

PER_CORE = Figure("samples_per_core_s", "images per core-second")
PIL = "DataLoader, PIL"
OURS = {tasks.OURS: "stream", "litscope, augmented on the CPU": "augment", "litscope, raw cache": "cache"}
HERE = {PIL: "pil", "DataLoader, torchvision v2": "v2"}
PACKED = ("webdataset", "litdata")
"""Rivals that read formats of their own, from environments of their own."""

SIDE = 64


def arms(context: Context) -> list[Arm]:
    """Make the pictures, and what the rivals pack them into; build the raw cache."""
    pictures = context.work / "pictures"
    if not pictures.exists():
        make_pictures(context, pictures, 64 if context.size == "tiny" else 640)
    ours, theirs = (str(tasks.RIVALS / name) for name in ("litscope_pictures.py", "pictures.py"))
    found = [Arm(name, (ours, what, str(pictures)), takes_turns=False) for name, what in OURS.items()]
    variables = environment(1, context.work, is_ours=True)
    subprocess.run([sys.executable, *found[-1].command], env=variables, check=True, capture_output=True)
    found += [Arm(name, (theirs, what, str(pictures)), takes_turns=False) for name, what in HERE.items()]
    for name in PACKED:
        found.append(Arm(name, (theirs, name, str(pictures)), name, takes_turns=False))
        try:
            python = python_of(name, context.environments)
        except NotInstalled:
            continue  # the harness says so in the arm's line
        subprocess.run([python, theirs, "pack", str(pictures)], check=True, capture_output=True)
    return found


def make_pictures(context: Context, folder: Path, count: int) -> None:
    """Write the mosaics into train/0 to train/3.

    Raises:
        NoData: without CIFAR-10.
    """
    draw = random.Random(0)
    tiles = [
        Image.open(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for path in sorted(tasks.cifar10(context, per_class=200).glob("train/*/*.jpg"))
    ]
    for number in range(count):
        mosaic = Image.new("RGB", (500, 375))
        for y in range(0, 375, SIDE):
            for x in range(0, 500, SIDE):
                mosaic.paste(draw.choice(tiles), (x, y))
        path = folder / "train" / str(number % 4) / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        mosaic.save(path, quality=95)


BENCH = Bench(
    "decode", "JPEG files to batches of 224 pixels, one core", arms, (PER_CORE, RATE), threads=1, on_one_cpu=True
)
