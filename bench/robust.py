"""What robust losses and ways to treat rare classes are worth, on MNIST with planted labels and planted rarity.

    python bench/robust.py noise [--samples 2000] [--draws 3] [--epochs 40]
    python bench/robust.py rare [--samples 4000] [--draws 3] [--epochs 20]

`noise`: an mlp on training and validation labels of which a share is wrong (`planted.plant`), for each --robust.
`rare`: "is it a nine?", where 2 in 100 training samples are, for each way to treat that. The test set is as large as
the training set, of other images, with right labels; of `rare` with as few nines. Each draw has images, noise and
weights of its own; what is printed is the mean over draws, and the standard deviation behind ±. The weights are those
of the best validation.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine
from numpy.typing import NDArray
from planted import PARTNER, load, plant

import litscope

NOISE = (("none", 0.0), ("symmetric", 0.4), ("class-dependent", 0.3))
ROBUST: dict[str, dict[str, Any]] = {
    "none": {},
    "gce": {"robust": "gce"},
    "elr": {"robust": "elr"},
    "small_loss, share given": {"robust": "small_loss"},
    "small_loss, estimated": {"robust": "small_loss"},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "--task binary": {"task": "binary"},
    "--class-weights balanced": {"class_weights": "balanced"},
    "--sampler balanced": {"sampler": "balanced"},
    "--loss focal": {"loss": "focal"},
    "--logit-adjustment 1": {"logit_adjustment": 1.0},
}
RARE_SHARE = 0.02
NINE = 9

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["noise", "rare"])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args()
    print(machine())
    if args.what == "noise":
        noise(args.samples or 2000, args.draws, args.epochs or 40)
    else:
        rare(args.samples or 4000, args.draws, args.epochs or 20)


def noise(num_samples: int, num_draws: int, epochs: int) -> None:
    """Test accuracy of each --robust under each kind of noise."""
    print("| wrong labels | " + " | ".join(ROBUST) + " |")
    print("|---" * (len(ROBUST) + 1) + "|")
    for kind, share in NOISE:
        row = []
        for name, flags in ROBUST.items():
            if share and name.endswith("given"):
                flags = {**flags, "small_loss_share": share}
            elif name.endswith("given"):
                row.append("")
                continue
            found = []
            for draw in range(num_draws):
                (x, y), (x_test, y_test) = (load("mnist", num_samples, 2 * draw + part) for part in range(2))
                if kind != "none":
                    y = plant(y, kind, share, PARTNER["mnist"], seed=draw)  # type: ignore[arg-type]
                found.append(trained(x, y, x_test, y_test, draw, epochs=epochs, **flags)["test/accuracy"])
            row.append(f"{100 * np.mean(found):.1f} ± {100 * np.std(found):.1f}")
        print(f"| {kind} {share:.0%} | " + " | ".join(row) + " |", flush=True)


def rare(num_samples: int, num_draws: int, epochs: int) -> None:
    """Test AP, F1 at 0.5 and recall of the rare class, for each way to treat it."""
    names = ("ap", "f1", "precision", "recall", "loss")
    print("| way | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for way, flags in WAYS.items():
        found = []
        for draw in range(num_draws):
            parts = [nines(*load("mnist", 3 * num_samples, 2 * draw + part), num_samples) for part in range(2)]
            (x, y), (x_test, y_test) = parts
            values = trained(x, y, x_test, y_test, draw, epochs=epochs, monitor="val/ap", val_split=0.25, **flags)
            found.append([values[f"test/{name}"] for name in names])
        cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(np.mean(found, 0), np.std(found, 0), strict=True))
        print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


def nines(x: Images, y: Labels, count: int) -> tuple[Images, Labels]:
    """`count` images, `RARE_SHARE` of them nines; the labels say whether."""
    num_nines = round(RARE_SHARE * count)
    chosen = np.concatenate([np.flatnonzero(y == NINE)[:num_nines], np.flatnonzero(y != NINE)[: count - num_nines]])
    return x[chosen], (y[chosen] == NINE).astype(np.int64)


def trained(x: Images, y: Labels, x_test: Images, y_test: Labels, draw: int, **flags: Any) -> dict[str, float]:
    """The metrics of a run."""
    with scratch() as folder:
        np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
        settings = {"arch": "mlp", "augment": "none", "lr": 1e-3, "batch_size": 64, "steps_per_call": 1, "seed": draw}
        with contextlib.redirect_stderr(io.StringIO()):
            result = litscope.fit(
                folder / "data.npz",
                **{**settings, **flags},
                run_dir=str(folder / "run"),
                accelerator="cpu",
                logger=["none"],
                ledger=False,
                progress=False,
            )
    return result.metrics


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a run, which is removed after it."""
    with tempfile.TemporaryDirectory(prefix="litscope-robust-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
