"""Samples per second of the data path alone: one epoch of uint8 batches ready for a network, from shards.

At 32 pixels these are CIFAR-10's JPEG files; at 224, photographs of hands (100 x 100), enlarged to squares of 256
(bicubic) and saved as JPEG of quality 95. All arms read the same image bytes: `litscope prepare` writes the shards,
which webdataset reads as well, litdata packs them with its `optimize`, and torchvision reads the files. All deliver
the same uint8 batches, of 32 or 256 pixels (the room for random crops of 224), shuffled and not augmented; with as
many worker processes as litscope has threads. litscope compares each sample with its digest, the others none.

From S3, moto's server on loopback answers 20 ms late (`object_store.py`). It shares the cores with the arm that it
serves; its CPU time is a figure of its own, and not part of the arm's. No arm finds anything in a cache: litscope and
webdataset have none here, litdata's is emptied before each pass. webdataset reads by curl, its way for http.

The page goes by CPU time first, because other work on the machine changes it less than it changes samples per second.
The decoder alone takes the same bytes from memory, in as many threads, without order, batches or checks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import harness
import tasks
from environments import NotInstalled, python_of
from harness import RATE, Arm, Bench, Context, Figure
from lines import Line
from object_store import serving
from PIL import Image
from processes import environment

LATENCY_S = 0.02
BATCH_SIZE = 64
SIDES = {32: 32, 224: 256}
"""Pixels of the network -> side of the squares that come out."""

DECODER = "litscope's decoder alone"
FOLDER, WEBDATASET, LITDATA = "folder, torchvision", "webdataset", "litdata"

BUCKET = "bench"
OURS_SCRIPT, THEIRS_SCRIPT = (str(tasks.RIVALS / name) for name in ("litscope_shards.py", "sharded.py"))

FIGURES = (
    Figure("cpu_us_per_sample", "µs of CPU"),
    RATE,
    Figure("kb_per_sample", "kB read"),
    Figure("peak_mib", "MiB", "cold"),
)
FROM_S3 = (*FIGURES, Figure("requests", "requests"), Figure("server_cpu_us_per_sample", "µs of CPU of the server"))


def stored(context: Context, pixels: int) -> Path:
    """Write the images, the shards and litdata's chunks; returns the folder of the bucket, of a folder of buckets.

    Raises:
        NoData: without the real data.
    """
    home = context.work / f"shards-{pixels}" / BUCKET
    if home.exists():
        return home
    files = images(context, pixels)
    num_samples = sum(1 for _ in files.glob("*/*.jpg"))
    per_shard = -(-num_samples // 8)
    command = [sys.executable, "-m", "litscope", "prepare", str(files), "--val-split", "0", "--test-split", "0"]
    command += ["--output-dir", str(home / "shards"), "--shard-size", str(per_shard)]
    subprocess.run(
        command, env=environment(context.threads, context.work, is_ours=True), check=True, capture_output=True
    )
    try:
        python = python_of(LITDATA, context.environments)
    except NotInstalled:
        return home  # the harness says so in the arm's line
    command = [python, THEIRS_SCRIPT, "pack", str(files), "--to", str(home / LITDATA), "--chunk-size", str(per_shard)]
    variables = environment(context.threads, context.work, is_ours=False)
    variables |= {f"DATA_OPTIMIZER_{what}FOLDER": str(context.work / "optimize") for what in ("CACHE_", "DATA_CACHE_")}
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return home


def images(context: Context, pixels: int) -> Path:
    """The images as files, `<class>/<name>.jpg`.

    Raises:
        NoData: without the real data.
    """
    if pixels == 32:
        return tasks.cifar10(context, per_class=2000 if context.full else 500) / "train"
    folder = context.work / "enlarged"
    if not folder.exists():
        every = 50 if context.size == "tiny" else 1 if context.full else 2
        for path in sorted(tasks.signs(context).glob("*/*.JPG"))[::every]:
            aim = folder / path.parent.name / f"{path.stem}.jpg"
            aim.parent.mkdir(parents=True, exist_ok=True)
            side = SIDES[pixels]
            Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(aim, quality=95)
    return folder


def arms(context: Context, pixels: int, server: str | None = None) -> list[Arm]:
    """All arms, from the local disk or from a server."""
    home = stored(context, pixels)
    more = ["--side", str(SIDES[pixels]), "--batch-size", str(BATCH_SIZE), "--num-workers", str(context.threads)]
    more += ["--epochs", str(context.epochs), *(["--server", server] if server else [])]
    shards, chunks = (f"s3://{BUCKET}/{name}" if server else str(home / name) for name in ("shards", LITDATA))
    tars = f"{server}/{BUCKET}/shards" if server else shards
    last = sum(1 for _ in (home / "shards").glob("train-*.tar")) - 1
    ours = [tasks.OURS, "stream", f"{shards}/"], [DECODER, "decode", str(home / "shards")]
    found = [
        Arm(name, (OURS_SCRIPT, what, source, "--pixels", str(pixels), *more))
        for name, what, source in (ours[:1] if server else ours)
    ]
    urls = f"{tars}/train-{{0000..{last:04}}}.tar"
    found.append(Arm(WEBDATASET, (THEIRS_SCRIPT, "webdataset", urls, *more), WEBDATASET))
    found.append(Arm(LITDATA, (THEIRS_SCRIPT, "litdata", chunks, *more), LITDATA))
    if not server:
        found.append(Arm(FOLDER, (THEIRS_SCRIPT, "folder", str(images(context, pixels)), *more)))
    return found


def local(pixels: int) -> Bench:
    """From shards on the local disk."""
    title = f"One epoch from local shards at {pixels} pixels, nothing trained"
    return Bench(f"shards_{pixels}", title, lambda context: arms(context, pixels), FIGURES, is_quick=True)


def from_s3(pixels: int) -> Bench:
    """From the same shards in S3."""
    name, title = f"shards_s3_{pixels}", f"One epoch from S3, 20 ms away, at {pixels} pixels, nothing trained"

    def lines(context: Context) -> list[Line]:
        with serving(stored(context, pixels).parent, LATENCY_S) as server:
            return harness.measure(Bench(name, title, _arms_at(pixels, server), FROM_S3), context)

    return Bench(name, title, measure=lines)


def _arms_at(pixels: int, server: str) -> Callable[[Context], list[Arm]]:
    return lambda context: arms(context, pixels, server)


LOCAL_32, LOCAL_224 = local(32), local(224)
S3_32, S3_224 = from_s3(32), from_s3(224)
