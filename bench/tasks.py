"""What several benches train on, and the commands of their arms."""

from __future__ import annotations

import gzip
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Arm, Context
from sklearn.datasets import make_classification

RIVALS = Path(__file__).resolve().parent / "rivals"

OURS = "litscope"
LIGHTNING = "plain Lightning"
LOOP = "hand-written loop"
CEILING = "ceiling"


class NoData(Exception):
    """Real data are needed, and are not there."""


@dataclass(frozen=True)
class Task:
    """What all arms of a bench train.

    Attributes:
        name: cifar10, mnist, table or synthetic: how the plain scripts read the data.
        source: folder or file that the plain scripts read.
        dataset: the same as words for `litscope fit`.
        arch: as the plain scripts name it: an architecture, or mlp:64,64.
        batches: training batches in a turn.
        is_tested: whether accuracy on the test set is measured at the end.
    """

    name: str
    source: Path
    dataset: tuple[str, ...]
    arch: str
    batches: int
    batch_size: int = 64
    is_tested: bool = False
    device: str = "cpu"
    precision: str = "32"
    image_size: int | None = None


def ours(task: Task, context: Context, name: str = OURS, *more: str) -> Arm:
    """`litscope fit` with everything on record; no validation samples are held back, so that all arms see the same."""
    arch, _, widths = task.arch.partition(":")
    words = [str(RIVALS / "litscope_fit.py"), *task.dataset, "--arch", arch]
    words += ["--hidden", widths] if widths else []
    words += ["--batch-size", str(task.batch_size), "--limit-train-batches", str(task.batches)]
    words += ["--epochs", str(context.epochs), "--val-split", "0", "--limit-val-batches", "1"]
    words += [] if task.is_tested else ["--limit-test-batches", "1"]
    words += ["--lr", "1e-3", "--weight-decay", "0.01", "--scheduler", "constant", "--warmup-epochs", "0"]
    words += ["--accelerator", "cpu" if task.device == "cpu" else "gpu", "--devices", "1"]
    words += ["--precision", task.precision, "--no-progress"]
    words += ["--image-size", str(task.image_size)] if task.image_size else []
    return Arm(name, (*words, *more))


def plain(task: Task, context: Context, name: str, script: str, *more: str) -> Arm:
    """A plain script of `rivals/` on the same task."""
    words = [str(RIVALS / script), task.name, str(task.source), "--arch", task.arch, "--batches", str(task.batches)]
    words += ["--batch-size", str(task.batch_size), "--epochs", str(context.epochs)]
    words += ["--device", task.device, "--precision", task.precision]
    words += ["--image-size", str(task.image_size)] if task.image_size else []
    return Arm(name, (*words, *more))


def table(context: Context, num_samples: int, num_test: int = 10_000) -> Path:
    """A synthetic table: 32 features, 10 classes, from scikit-learn's make_classification, standardised."""
    path = context.work / f"table-{num_samples}.npz"
    if not path.exists():
        x, y = make_classification(num_samples + num_test, 32, n_informative=16, n_classes=10, random_state=0)
        x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
        train, test = slice(num_samples), slice(num_samples, None)
        np.savez(path, X=x[train], y=y[train], X_test=x[test], y_test=y[test])
    return path


def mnist(context: Context) -> Path:
    """The four idx files, unpacked as torchvision wants them.

    Raises:
        NoData: if they are not in the folder of real data.
    """
    raw = context.work / "MNIST" / "raw"
    packed = sorted((context.data / "mnist").glob("*.gz"))
    if len(packed) < 4:
        raise NoData(f"MNIST's four idx.gz files are not in {context.data / 'mnist'}; give the folder by --data")
    if not raw.exists():
        raw.mkdir(parents=True)
        for file in packed:
            (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return context.work


def signs(context: Context) -> Path:
    """Photographs of hands, `<digit>/IMG_<number>.JPG`.

    Raises:
        NoData: if the archive is not in the folder of real data.
    """
    return _extracted("signs", context)


def _extracted(name: str, context: Context) -> Path:
    archive = context.data / f"{name}.tar.gz"
    if not archive.exists():
        raise NoData(f"there is no {archive}; give the folder by --data")
    home = context.work / name
    if not home.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(context.work, filter="data")
    return home


def spacewarps(context: Context) -> Path:
    """The list of the Space Warps survey's images, with labels and sky groups.

    Raises:
        NoData: if the archive is not in the folder of real data.
    """
    return _extracted("spacewarps", context) / "samples.csv"


def cifar10(context: Context, per_class: int | None = None) -> Path:
    """CIFAR-10 as JPEG files, `train|test/<class>/NNNN.jpg`.

    Args:
        per_class: take only this many training images of each class, and a fifth as many test images.

    Raises:
        NoData: if the archive is not in the folder of real data.
    """
    archive = context.data / "cifar10_jpeg.tar.gz"
    if not archive.exists():
        raise NoData(f"there is no {archive}; give the folder by --data")
    per_class = 20 if context.size == "tiny" else per_class
    home = context.work / f"cifar10-{per_class or 'all'}"
    if not home.exists():
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                limit = per_class if per_class is None or "/train/" in member.name else per_class // 5
                if member.isfile() and (limit is None or int(Path(member.name).stem) < limit):
                    tar.extract(member, home, filter="data")
    return home / "cifar10"
