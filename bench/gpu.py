"""The benches that need a GPU, in one command of less than ten minutes:

    python bench/gpu.py                        all of them, on the GPU
    python bench/gpu.py --size tiny            on the CPU, a few batches: does it run at all
    python bench/gpu.py gpu_resnet18_synthetic gpu_syncs

ResNet-18 at 32 pixels and ResNet-50 at 224, in bf16, with everything on record. With synthetic data (noise, an array
in memory) litscope is compared with a bare loop on one resident batch, so everything that it does besides the step
counts; with real photographs (CIFAR-10, enlarged where the network wants 224 pixels), with a loop that has a
DataLoader. `gpu_syncs` counts the points inside an epoch's steps at which the host waits for the device
(torch.cuda.set_sync_debug_mode): there must be none. `gpu_small` is the MLP of small_mlp.py. `gpu_cifar94` trains
recipes/cifar10_gpu.yaml to its end on three seeds, beside a bare loop of the same network (rivals/whitened_loop.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import small_mlp
import tasks
from harness import LEAST_ROUNDS, RATE, TRAINING, Arm, Bench, Context, Figure
from lines import Line, figure_line
from PIL import Image
from processes import ArmFailed

from litscope.config.fields import fields
from litscope.limits import num_cores

BARE = {"synthetic": "bare loop, one resident batch", "real": "bare loop, DataLoader"}

SHAPES = {"resnet18": (32, 512, 100), "resnet50": (224, 128, 40)}
"""Pixels, batch size and batches of a turn."""

TINY = (32, 4, 2)

PER_CLASS = 1_000
"""Training images of each class in the real data; all 50,000, enlarged to 224 pixels, would be 7.5 GB."""

MOST_WORKERS = 16
"""Processes that decode for the bare loop."""

REPEATS_UNTIL_S = 200.0
"""After this time a run that is thrown away is not repeated, so that everything ends within ten minutes."""


def device() -> str:
    """cuda where torch sees a GPU, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


LEAST_SAMPLES = 40
"""The fewest synthetic samples with which every class still occurs in training after validation samples are taken."""


def images(context: Context, arch: str, data: str) -> list[Arm]:
    """Our arm and the bare loop's."""
    pixels, batch_size, batches = TINY if context.size == "tiny" else SHAPES[arch]
    if data == "real":
        batches = min(batches, 10 * PER_CLASS // batch_size)
    name = "synthetic" if data == "synthetic" else "cifar10"
    num_samples = max(batch_size * batches, LEAST_SAMPLES)
    folder = noise(context, pixels, num_samples) if data == "synthetic" else tasks.cifar10(context, PER_CLASS)
    task = tasks.Task(
        name,
        folder,
        (str(folder),),
        arch,
        batches,
        batch_size,
        device=device(),
        precision="bf16",
        image_size=pixels,
    )
    if data == "synthetic":
        bare = tasks.plain(task, context, BARE[data], "ceiling.py")
    else:
        workers = str(min(num_cores(), MOST_WORKERS))
        bare = tasks.plain(task, context, BARE[data], "plain_torch.py", "--tuned", "--num-workers", workers)
    return [tasks.ours(task, context), bare]


def noise(context: Context, pixels: int, num_samples: int) -> Path:
    """An .npz file of random uint8 images (N, H, W, 3), ten classes."""
    path = context.work / f"noise-{pixels}-{num_samples}.npz"
    if not path.exists():
        draw = np.random.default_rng(0)
        x = draw.integers(0, 256, (num_samples, pixels, pixels, 3), np.uint8)
        np.savez(path, X=x, y=np.arange(num_samples) % 10)
    return path


def syncs(context: Context) -> list[Arm]:
    """Our arm alone, without lines of metrics/steps.jsonl, for each of which it reads a loss on purpose."""
    ours = images(context, "resnet18", "synthetic")[0]
    return [Arm(ours.name, (*ours.command, "--sync-check", "--log-every-n-steps", "1000000"))]


def small(context: Context) -> list[Arm]:
    """The MLP, one step a call and several, beside plain Lightning and a loop without a DataLoader."""
    batches = 4 if context.size == "tiny" else 1000
    source = tasks.table(context, 64 * batches, 200)
    task = tasks.Task("table", source, (str(source),), f"mlp:{small_mlp.WIDTHS}", batches, device=device())
    has_steps = "--steps-per-call" in {flag for field in fields() for flag in field.flags}
    found = [tasks.ours(task, context, tasks.OURS, *(["--steps-per-call", "1"] if has_steps else []))]
    if has_steps and context.size == "normal":
        found.append(tasks.ours(task, context, small_mlp.SEVERAL, "--compile-steps"))
    return [
        *found,
        tasks.plain(task, context, tasks.LIGHTNING, "plain_lightning.py"),
        tasks.plain(task, context, small_mlp.RESIDENT, "plain_torch.py", "--resident", "--tuned"),
    ]


SEEDS = 3
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "cifar10_gpu.yaml"
BARE_LOOP = "bare loop"


def cifar94(context: Context) -> list[Line]:
    """Both arms in turn for each seed, as whole commands on the same arrays."""
    is_tiny = context.size == "tiny"
    data = pixels_of_cifar10(context)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(1 if is_tiny else SEEDS):
        for name, command in (
            (tasks.OURS, _whitened_fit(data, context, seed, is_tiny)),
            (BARE_LOOP, _bare_loop(data, seed, is_tiny)),
        ):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wall_s = time.perf_counter() - began
            if done.returncode:
                raise ArmFailed(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
            said = json.loads(done.stdout[done.stdout.index("{") :])
            said = said.get("result", said)  # ours is in an envelope
            accuracy = said.get("metrics", {}).get("best", said)["test/accuracy"]
            print(f"{name}, seed {seed}: {accuracy:.2%} in {wall_s:.1f} s", file=sys.stderr, flush=True)
            train_s = said["train_s"] if "train_s" in said else sum(said["epoch_s"])
            figures = {"runs_per_hour": 3600 / wall_s, "wall_s": wall_s, "train_s": train_s, "accuracy": accuracy}
            for figure, value in figures.items():
                found[name, figure].append(round(value, 4))
    units = {"runs_per_hour": "runs/h", "wall_s": "s", "train_s": "s", "accuracy": "of 1"}
    return [
        figure_line(name, figure, units[figure], values, "cold", seeds=len(values))
        for (name, figure), values in found.items()
    ]


def _whitened_fit(data: Path, context: Context, seed: int, is_tiny: bool) -> list[str]:
    command = [sys.executable, "-m", "litscope", "fit", "--config", str(RECIPE), "--dataset", str(data)]
    command += ["--seed", str(seed), "--run-dir", str(context.work / f"whitened-{seed}"), "--no-progress", "--json"]
    command += ["--accelerator", "gpu" if device() == "cuda" else "cpu"]
    more = ["--epochs", "1", "--batch-size", "8", "--limit-train-batches", "2", "--limit-test-batches", "1"]
    return command + (more if is_tiny else [])


def _bare_loop(data: Path, seed: int, is_tiny: bool) -> list[str]:
    script = tasks.RIVALS / "whitened_loop.py"
    command = [sys.executable, str(script), str(data), "--seed", str(seed), "--device", device()]
    return command + (["--epochs", "1", "--batch-size", "8", "--batches", "2"] if is_tiny else [])


def pixels_of_cifar10(context: Context) -> Path:
    """All of CIFAR-10 as one .npz file of uint8 arrays, decoded from the JPEG files."""
    folder = tasks.cifar10(context)
    path = context.work / "cifar10.npz"
    if not path.exists():
        arrays = {}
        classes = sorted(entry.name for entry in (folder / "train").iterdir())
        for split, end in (("train", ""), ("test", "_test")):
            files = sorted((folder / split).glob("*/*.jpg"))
            arrays[f"X{end}"] = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
            arrays[f"y{end}"] = np.array([classes.index(file.parent.name) for file in files])
        np.savez(path, **arrays)
    return path


BENCHES = {
    **{
        f"gpu_{arch}_{data}": Bench(
            f"gpu_{arch}_{data}", f"{arch}, {data} data, bf16", partial(images, arch=arch, data=data)
        )
        for arch in SHAPES
        for data in BARE
    },
    "gpu_syncs": Bench(
        "gpu_syncs", "Waits for the GPU in an epoch's steps", syncs, (RATE, Figure("host_syncs", "waits", "cold"))
    ),
    "gpu_small": Bench("gpu_small", "MLP 32-64-64-10 on a table, batch 64", small, TRAINING, threads=1),
    "gpu_cifar94": Bench("gpu_cifar94", "CIFAR-10 to 94 %, whitened small network", measure=cifar94),
}


def main() -> int:
    """Run the benches that are asked for; 1 if one failed or was thrown away twice."""
    from lines import results_file
    from run import run, shared_data

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--size", choices=["normal", "tiny"], default="normal")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS)
    parser.add_argument("--threads", type=int, default=4, help="of the host, the same for every arm")
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the real data")
    parser.add_argument("--out", type=Path, help="file of the JSON lines; default: results/<machine>.jsonl")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHES):
        sys.exit(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if device() == "cpu" and options.size == "normal":
        sys.exit("torch sees no GPU here; --size tiny runs the same on the CPU, to see that it works")
    results, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="litscope-bench-") as work:
        for name in options.names or BENCHES:
            context = Context(
                options.data.resolve(),
                Path(work),
                rounds=options.rounds,
                threads=options.threads,
                size=options.size,
                may_repeat=options.size == "normal" and time.monotonic() - began < REPEATS_UNTIL_S,
                entry="bench/gpu.py",
            )
            results.append(run(BENCHES[name], context, options.out or results_file()))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
