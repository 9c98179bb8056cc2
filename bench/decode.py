"""Images per second and core on the way from JPEG files to batches of 224 pixels, beside the usual loaders.

    python bench/decode.py --data ../shared/data [--rounds 5] [--images 640] [--python OTHER/bin/python]

The pictures: 500 x 375 mosaics of CIFAR-10 photographs, each enlarged to 64 x 64 (bicubic), saved as
JPEG of quality 95, about 70 kB each. Every arm makes one pass over all of them in a process of its
own, with one worker (litscope: one thread). What counts is CPU time, that of workers included and
imports left out, so a busy machine changes little; arms run in turns, and a ratio is taken inside a
round. The rivals deliver normalised float32 after RandomResizedCrop and flip. litscope's first arm
delivers uint8 squares of 256 pixels, for a GPU to crop and flip; `augment` does that on the CPU too.
Rivals that are not installed are left out; --python names an environment that has them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from harness import machine
from PIL import Image

RIVALS = Path(__file__).parent / "rivals"
OURS = {
    "litscope, files to uint8": "stream",
    "litscope, files to augmented float32": "augment",
    "litscope, raw cache to uint8": "cache",
}
OTHERS = {
    "DataLoader, PIL, torchvision": "pil",
    "DataLoader, torchvision v2": "v2",
    "webdataset": "webdataset",
    "litdata": "litdata",
}
SIDE = 64


def main() -> None:
    """Make the pictures, run the arms in turns, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--python", default=sys.executable, help="Python of the rivals")
    parser.add_argument("--out", type=Path, help="append the JSON line to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        num_bytes = make_pictures(options.data / "cifar10_jpeg.tar.gz", pictures, options.images)
        run([options.python, str(RIVALS / "pictures.py"), "pack", str(pictures)])
        arms = {name: [sys.executable, str(RIVALS / "litscope_pictures.py"), arm] for name, arm in OURS.items()}
        arms |= {name: [options.python, str(RIVALS / "pictures.py"), arm] for name, arm in OTHERS.items()}
        run([*arms["litscope, raw cache to uint8"], str(pictures)])  # builds the cache
        rates: dict[str, list[float]] = {name: [] for name in [*arms, "litscope, files to uint8 again"]}
        for number in range(1, options.rounds + 1):
            for name in rates:
                done = run([*arms[name.removesuffix(" again")], str(pictures)])
                if done is not None:
                    rates[name].append(json.loads(done.splitlines()[-1])["samples_per_core_s"])
                    print(f"  round {number}: {name} {rates[name][-1]:.0f}/core-s", file=sys.stderr, flush=True)
    figures = [figure(name, found, rates) for name, found in rates.items() if found]
    print(f"\n{'images per core-second':<40}{'median':>8}{'litscope is':>14}{'(min-max)':>14}")
    for row in figures:
        print(f"{row['name']:<40}{row['rate']:>8.0f}{row['ratio']:>13.2f}x{row['min']:>8.2f}-{row['max']:.2f}")
    line = {"bench": "decode", "rounds": options.rounds, "images": options.images, "bytes": num_bytes, "arms": figures}
    text = json.dumps({**line, "machine": machine()})
    print(text)
    if options.out:
        with options.out.open("a") as file:
            file.write(text + "\n")


def make_pictures(archive: Path, folder: Path, count: int) -> float:
    """Write the mosaics into train/0 to train/3; return their mean size in bytes."""
    draw = random.Random(0)
    tiles = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".jpg") and "/train/" in member.name:
                tiles.append(Image.open(tar.extractfile(member)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            if len(tiles) == 2000:
                break
    sizes = []
    for number in range(count):
        mosaic = Image.new("RGB", (500, 375))
        for y in range(0, 375, SIDE):
            for x in range(0, 500, SIDE):
                mosaic.paste(draw.choice(tiles), (x, y))
        path = folder / "train" / str(number % 4) / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        mosaic.save(path, quality=95)
        sizes.append(path.stat().st_size)
    return statistics.mean(sizes)


def run(command: list[str]) -> str | None:
    """What a process printed; None (and its last line of error, said) where its packages are missing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        return done.stdout
    if "ModuleNotFoundError" in done.stderr:
        return None
    sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")


def figure(name: str, found: list[float], rates: dict[str, list[float]]) -> dict[str, object]:
    """Median rate of an arm, and the advantage of litscope's first arm over it, round by round."""
    ratios = [ours / other for ours, other in zip(next(iter(rates.values())), found, strict=True)]
    rounded = {"ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"name": name, "rate": round(statistics.median(found), 1), **{k: round(v, 3) for k, v in rounded.items()}}


if __name__ == "__main__":
    main()
