"""Data sets that have a name: scikit-learn's bundled ones, and the files of torchvision's. No torch,
except to download.

Files are read here, not by torchvision: idx files (MNIST), pickles of numpy arrays (CIFAR, by an
unpickler that knows nothing but numpy arrays), `.mat` files (SVHN). Each may also be there as
`train|test/<class>/` folders of images. torchvision is imported only to download what is absent.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.sources.folders import list_folder
from litscope.data.sources.listing import Listing, index_labels, no_splits
from litscope.data.sources.names import NAMES
from litscope.errors import DataError

_DIGIT_NAMES = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FIRST_LABELS = {
    "mnist": bytes([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
    "fashion_mnist": bytes([9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
}
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Part = tuple[Pixels, Labels]


@dataclass(frozen=True)
class _Files:
    """A data set that lies in torchvision's files.

    Attributes:
        folders: where the files may be, below the data folder.
        files: the files that must be there.
        read: folder -> (train, test, class names).
        torchvision: name of the class that downloads it.
        num_classes: of a folder of images that may be taken for this data set.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[Path], tuple[Part, Part, tuple[str, ...]]]
    torchvision: str
    num_classes: int


def open_named(name: str, data_dir: Path, download: bool) -> Listing:
    """Open a data set by its name.

    Args:
        name: one of `NAMES`.
        data_dir: where torchvision's files, or folders of images, are looked for, and downloaded to.
        download: fetch what is absent.

    Raises:
        DataError: if it is absent and was not or could not be downloaded; the message lists what was
            looked for. If a file is damaged.
    """
    if name in _BUNDLED:
        return _BUNDLED[name]()
    rows, problem = _look(name, data_dir), "downloading is off (--no-download)"
    if rows is None and download:
        problem = _download(name, data_dir) or "what was downloaded is something else"
        rows = _look(name, data_dir)
    if rows is None:
        raise DataError(f"{name} is not in {data_dir}, and {problem}.\n{_sought(name, data_dir)}")
    return rows


def _look(name: str, data_dir: Path) -> Listing | None:
    """The data set if it lies in the data folder, as files or as folders of images."""
    known = _FILES[name]
    for folder in (data_dir / below for below in known.folders):
        if all(_existing(folder, file) for file in known.files):
            train, test, classes = known.read(folder)
            _check_which(name, folder, train[1])
            return _two_parts(name, train, test, classes)
    for folder in (data_dir / name, data_dir):
        if (folder / "train").is_dir() and any(path.is_dir() for path in (folder / "train").iterdir()):
            rows = list_folder(folder)
            if folder != data_dir or len(rows.classes) == known.num_classes:
                rows.name = name
                return rows
    return None


def named_in(folder: Path) -> list[str]:
    """The names of the data sets whose files lie in a folder; those of MNIST and Fashion-MNIST are called alike."""
    return [
        name
        for name, known in _FILES.items()
        if any(all(_existing(folder / below, file) for file in known.files) for below in known.folders)
    ]


def tests_in(folder: Path) -> Listing | None:
    """The test part of the named data set whose files lie in a folder; None where none lies there.

    Raises:
        DataError: if a file is damaged.
    """
    problem: DataError | None = None
    for name in named_in(folder):
        try:
            rows = _look(name, folder)
        except DataError as error:  # those of MNIST and Fashion-MNIST are called alike
            problem = error
            continue
        if rows is not None and rows.pixels is not None:
            ids = np.flatnonzero(rows.splits == "test")
            keys = [str(rows.keys[number]) for number in ids]
            return replace(rows, keys=keys, labels=rows.labels[ids], splits=rows.splits[ids], pixels=rows.pixels[ids])
    if problem is not None:
        raise problem
    return None


def _sought(name: str, data_dir: Path) -> str:
    """Lines that say what was looked for, and where."""
    known = _FILES[name]
    places = "\n".join(f"  {data_dir / below}" for below in known.folders)
    gz = " (or .gz)" if known.files == _IDX_FILES else ""
    return (
        f"Looked for {', '.join(known.files)}{gz} in\n{places}\n"
        f"and for train/<class>/ and test/<class>/ folders of images in\n  {data_dir / name}\n  {data_dir}\n"
        f"Put the files there, or name the folder that holds them with --data-dir."
    )


def _download(name: str, data_dir: Path) -> str | None:
    """Let torchvision download both parts; returns what went wrong, or None."""
    try:
        maker = getattr(importlib.import_module("torchvision.datasets"), _FILES[name].torchvision)
        with contextlib.redirect_stdout(sys.stderr):
            if name == "svhn":
                maker(root=str(data_dir), split="train", download=True)
                maker(root=str(data_dir), split="test", download=True)
            else:
                maker(root=str(data_dir), train=True, download=True)
    except (OSError, RuntimeError, ImportError) as error:
        return f"it could not be downloaded ({type(error).__name__}: {error})"
    return None


def _existing(folder: Path, file: str) -> Path | None:
    """A file, or its .gz, or None."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _check_which(name: str, folder: Path, train_labels: Labels) -> None:
    """MNIST and Fashion-MNIST have the same file names: their first labels tell them apart."""
    head = train_labels[:10].astype(np.uint8).tobytes()
    for other, first in _FIRST_LABELS.items():
        if name in _FIRST_LABELS and other != name and head == first:
            raise DataError(f"The files in {folder} are those of {other}, not of {name}. Give --dataset {other}.")


def _two_parts(name: str, train: Part, test: Part, classes: tuple[str, ...]) -> Listing:
    counts = {"train": len(train[1]), "test": len(test[1])}
    return Listing(
        name=name,
        keys=[f"{split}/{i:05d}" for split, count in counts.items() for i in range(count)],
        labels=np.concatenate([train[1], test[1]]),
        classes=classes,
        splits=np.repeat(np.array(list(counts), dtype=object), list(counts.values())),
        pixels=np.concatenate([train[0], test[0]]),
    )


def _digits() -> Listing:
    """1,797 hand-written digits of 8 x 8 pixels; 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # (N, 8, 8, 1)
    keys = [f"digits/{i:05d}" for i in range(len(pixels))]
    return Listing("digits", keys, bunch.target.astype(np.int64), _DIGIT_NAMES, no_splits(len(keys)), pixels=pixels)


def _bundled_table(name: str) -> Listing:
    """One of scikit-learn's tables; classes in sorted order."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    labels, classes, _ = index_labels(pa.array(bunch.target_names[bunch.target].tolist()), "label")
    columns = {str(column): bunch.data[:, k] for k, column in enumerate(bunch.feature_names)}
    keys = [f"{name}/{i:05d}" for i in range(len(labels))]
    return Listing(name, keys, labels, classes, no_splits(len(keys)), features=pa.table(columns))


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An idx file of unsigned bytes, plain or gzipped: magic 0, 0, 8, number of axes; their sizes; the values."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path} is not an idx file of bytes: it begins with {data[:4].hex(' ') or 'nothing'}.")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if len(values) != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path} promises {shape} bytes and holds {len(values):,}. Fetch it again.")
    return values.reshape(shape)


def _mnist_part(folder: Path, part: str) -> Part:
    paths = [_existing(folder, file) for file in _IDX_FILES if file.startswith(part)]
    images, labels = (_read_idx(path) for path in paths if path is not None)
    if images.ndim != 3 or labels.shape != images.shape[:1] or (labels > 9).any():
        raise DataError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape} do not match.")
    return images[:, :, :, None], labels.astype(np.int64)


def _read_mnist(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    return _mnist_part(folder, "train"), _mnist_part(folder, "t10k"), _DIGIT_NAMES


def _read_fashion(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    return _mnist_part(folder, "train"), _mnist_part(folder, "t10k"), _FASHION


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, strings and numpy arrays; anything else that a pickle may name is refused."""

    _ALLOWED = ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        """Numpy's array parts and the codec of old byte strings, by whitelist."""
        if name in self._ALLOWED and module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            if name in ("ndarray", "dtype"):
                return getattr(np, name)
            home = "numpy._core" if hasattr(np, "_core") else "numpy.core"
            return getattr(importlib.import_module(f"{home}.multiarray"), name)
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only numpy arrays are allowed")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """The codec call that Python 3 writes into a protocol 2 pickle in place of bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not CIFAR's dictionary.")
    return content


def _cifar_part(folder: Path, files: list[str], label_key: str) -> Part:
    images, labels = [], []
    for file in files:
        content = _unpickle(folder / file)
        data = content.get("data")
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
            raise DataError(f"{folder / file} holds no (N, 3072) bytes under 'data'.")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.asarray(content[label_key], dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _read_cifar10(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    train = _cifar_part(folder, [f"data_batch_{i}" for i in range(1, 6)], "labels")
    return train, _cifar_part(folder, ["test_batch"], "labels"), _CIFAR10


def _read_cifar100(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    classes = tuple(str(name) for name in _unpickle(folder / "meta")["fine_label_names"])
    return _cifar_part(folder, ["train"], "fine_labels"), _cifar_part(folder, ["test"], "fine_labels"), classes


def _svhn_part(path: Path) -> Part:
    """X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0."""
    import scipy.io

    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"]
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as SVHN's .mat file: {error}. Fetch it again.") from error
    pixels = np.ascontiguousarray(images.transpose(3, 0, 1, 2), dtype=np.uint8)
    return pixels, labels.ravel().astype(np.int64) % 10


def _read_svhn(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    return _svhn_part(folder / "train_32x32.mat"), _svhn_part(folder / "test_32x32.mat"), _DIGIT_NAMES


_BUNDLED: dict[str, Callable[[], Listing]] = {
    "digits": _digits,
    "iris": lambda: _bundled_table("iris"),
    "breast_cancer": lambda: _bundled_table("breast_cancer"),
}
_FILES = {
    "mnist": _Files((".", "mnist", "MNIST", "MNIST/raw"), _IDX_FILES, _read_mnist, "MNIST", 10),
    "fashion_mnist": _Files(
        (".", "fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
        _IDX_FILES,
        _read_fashion,
        "FashionMNIST",
        10,
    ),
    "cifar10": _Files(
        ("cifar-10-batches-py", ".", "cifar10/cifar-10-batches-py"),
        (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
        _read_cifar10,
        "CIFAR10",
        10,
    ),
    "cifar100": _Files(
        ("cifar-100-python", ".", "cifar100/cifar-100-python"),
        ("train", "test", "meta"),
        _read_cifar100,
        "CIFAR100",
        100,
    ),
    "svhn": _Files((".", "svhn"), ("train_32x32.mat", "test_32x32.mat"), _read_svhn, "SVHN", 10),
}
assert (*_BUNDLED, *_FILES) == NAMES, "a data set has a name and a way to be read"
