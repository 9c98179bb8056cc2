"""Data sets with wrong labels planted in them, for benches of what finds them.

`load` gives images and their labels, `plant` replaces a known share of the labels. There are two kinds of noise:
symmetric (any other class, all equally likely) and class-dependent (the class for which people and networks
mistake it, by `PARTNER`). Both plant an exact number, so that the share of wrong labels is exact too.
"""

from __future__ import annotations

import functools
import gzip
import os
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Labels = NDArray[np.int64]
Kind = Literal["symmetric", "class-dependent"]

CHARACTERS = (6, 7, 7, 8, 9, 6, 5, 1, 3, 4)
"""0 -> 6, 1 -> 7, 2 -> 7, 3 -> 8, 4 -> 9, 5 -> 6, 6 -> 5, 7 -> 1, 8 -> 3, 9 -> 4."""

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

PARTNER = {
    "digits": CHARACTERS,
    "mnist": CHARACTERS,
    # airplane -> ship, automobile -> truck, bird -> airplane, cat <-> dog, deer <-> horse, frog -> cat,
    # ship -> airplane, truck -> automobile
    "cifar10": (8, 9, 0, 5, 7, 3, 3, 4, 0, 1),
}
"""The class for which each class is mistaken: the pairs of Patrini et al. (2017), arXiv:1609.03683, for MNIST and
CIFAR-10, and for each class that has none there the one it resembles most."""


def shared_data() -> Path:
    """The folder of real data, beside the checkout or at $LITSCOPE_SHARED."""
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("LITSCOPE_SHARED", root.parent / "shared")) / "data"


def load(name: str, num_samples: int | None, seed: int) -> tuple[NDArray[np.uint8], Labels]:
    """Images (N, H, W) or (N, H, W, 3) of a data set, and their labels (N,).

    Args:
        name: digits, mnist or cifar10.
        num_samples: None takes all. Otherwise seed 0 takes the last `num_samples` of a fixed order, seed 1
            those before them, and so on: as long as there are enough, different seeds share no sample.
        seed: which subset.
    """
    x, y = _whole(name)
    if num_samples is None:
        return x, y
    order = np.random.default_rng(0).permutation(len(y))
    end = len(y) - seed * num_samples % (len(y) // num_samples * num_samples)
    chosen = order[end - num_samples : end]
    return x[chosen], y[chosen]


def plant(labels: Labels, kind: Kind, share: float, partner: tuple[int, ...], seed: int) -> Labels:
    """Labels of which `share` are wrong.

    Args:
        labels: (N,) the right ones, from 0 to C - 1.
        kind: "symmetric" draws round(share * N) samples and gives each one of the C - 1 other classes;
            "class-dependent" gives round(share * n) samples of each class (n of them) that class's partner.
        share: in [0, 1].
        partner: for each of the C classes another one.
        seed: of the draw.
    """
    draw = np.random.default_rng(seed)
    noisy = labels.copy()
    num_classes = len(partner)
    if kind == "symmetric":
        wrong = draw.permutation(len(labels))[: round(share * len(labels))]
        noisy[wrong] = (labels[wrong] + draw.integers(1, num_classes, len(wrong))) % num_classes
        return noisy
    for k in range(num_classes):
        members = draw.permutation(np.flatnonzero(labels == k))
        noisy[members[: round(share * len(members))]] = partner[k]
    return noisy


@functools.cache
def _whole(name: str) -> tuple[NDArray[np.uint8], Labels]:
    if name == "digits":
        digits = load_digits()
        return (digits.images * 255 / 16).round().astype(np.uint8), digits.target.astype(np.int64)
    if name == "mnist":
        folder = shared_data() / "mnist"
        x = _idx(folder / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        return x, _idx(folder / "train-labels-idx1-ubyte.gz", 8).astype(np.int64)
    images, labels = [], []
    with tarfile.open(shared_data() / "cifar10_jpeg.tar.gz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and "train" in parts:
                file = archive.extractfile(member)
                assert file is not None
                images.append(simplejpeg.decode_jpeg(file.read()))
                labels.append(CIFAR_CLASSES.index(parts[-2]))
    return np.stack(images), np.array(labels, np.int64)


def _idx(path: Path, header_bytes: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)
