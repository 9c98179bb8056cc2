"""Named data sets: in each place and form in which they may lie, and what is said when they do not."""

from __future__ import annotations

import gzip
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image

from litscope.data.sources.names import NAMES
from litscope.data.sources.new import open_arrays, open_paths
from litscope.data.sources.source import open_source
from litscope.errors import DataError

RNG = np.random.default_rng(0)


def _idx(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def _mnist_files(folder, first=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 40), ("t10k", 10)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.resize(np.array(first, np.uint8), count)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            data = _idx(values)
            path = folder / f"{part}-{name}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(data) if compressed else data)


def _cifar_pickle(path, count, protocol=2, **labels):
    data = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": data, **labels}, protocol=protocol))
    return data


def test_the_bundled_ones_need_no_files():
    digits = open_source("digits")
    assert (len(digits.manifest), digits.reader.read(0).shape) == (1797, (8, 8, 1))
    assert digits.reader.array.max() == 255
    assert digits.manifest.labels[:5].tolist() == [0, 1, 2, 3, 4]
    iris = open_source("iris")
    assert iris.manifest.classes == ("setosa", "versicolor", "virginica")
    assert iris.encoding["feature_names"][0] == "sepal length (cm)"
    assert iris.reader.read(0).tolist() == [np.float32(v) for v in (5.1, 3.5, 1.4, 0.2)]
    cancer = open_source("breast_cancer")
    assert np.bincount(cancer.manifest.labels).tolist() == [357, 212]
    assert cancer.manifest.classes == ("benign", "malignant")


@pytest.mark.flag("data-dir")
def test_mnist_as_it_lies_there(mnist_dir):
    by_parent, direct = (open_source("mnist", data_dir=folder) for folder in (mnist_dir.parent, mnist_dir))
    assert by_parent.manifest.table.equals(direct.manifest.table)
    assert [len(direct.manifest.ids(s)) for s in ("train", "val", "test")] == [54000, 6000, 10000]
    assert direct.manifest.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert direct.manifest.keys[60000] == "test/00000"
    assert direct.reader.read(0).shape == (28, 28, 1)
    with pytest.raises(DataError, match="are those of mnist, not of fashion_mnist"):
        open_source("fashion_mnist", data_dir=mnist_dir)


@pytest.mark.parametrize("below", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_places_of_mnist(tmp_path, below, compressed):
    _mnist_files(tmp_path / below, compressed=compressed)
    source = open_source("mnist", data_dir=tmp_path, download=False)
    assert [len(source.manifest.ids(s)) for s in ("train", "val", "test")] == [36, 4, 10]


@pytest.mark.slow
def test_files_of_a_named_set_are_new_images_too_gray_ones_for_colours(tmp_path, mnist_dir):
    like = {"kind": "image", "channels": 3, "dtype": "uint8"}
    new, mnist = open_paths([mnist_dir], like=like), open_source("mnist", data_dir=mnist_dir)
    assert (len(new.manifest), new.manifest.keys[0]) == (10_000, "test/00000")
    ids = mnist.manifest.ids("test")
    np.testing.assert_array_equal(new.reader.array, np.repeat(mnist.reader.array[ids], 3, 3))
    assert "holds mnist: these are the 10,000 images of its test set" in new.notes[0]
    _mnist_files(tmp_path / "FashionMNIST" / "raw", first=(9, 0, 0, 3, 0, 2, 7, 2, 5, 5))
    assert len(open_paths([tmp_path], like={**like, "channels": 1}).manifest) == 10
    with pytest.raises(DataError, match="cannot be joined with other paths"):
        open_paths([tmp_path, mnist_dir], like=like)
    with pytest.raises(DataError, match="has 1 channels of uint8; the model was trained on 4 of uint8"):
        open_arrays(np.zeros((2, 8, 8), np.uint8), like={**like, "channels": 4})


def test_fashion_mnist_has_class_names_in_the_order_of_its_labels(tmp_path):
    _mnist_files(tmp_path / "FashionMNIST" / "raw")
    source = open_source("fashion_mnist", data_dir=tmp_path, download=False)
    assert source.manifest.classes[0] == "T-shirt/top"
    assert source.manifest.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b broken", "cannot be read"),
        (gzip.compress(b"\0\0\x0d\x01", mtime=0), "not an idx file of bytes: it begins with 00 00 0d 01"),
        (gzip.compress(_idx(np.zeros(5, np.uint8))[:-1], mtime=0), r"promises \(5,\) bytes and holds 4"),
        (gzip.compress(_idx(np.zeros(5, np.uint8)), mtime=0), "do not match"),
        (gzip.compress(_idx(np.full(40, 10, np.uint8)), mtime=0), "do not match"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    _mnist_files(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source("mnist", data_dir=tmp_path, download=False)


@pytest.mark.parametrize("below", [".", "cifar10"])
def test_cifar10_in_torchvisions_files(tmp_path, below):
    folder = tmp_path / below / "cifar-10-batches-py"
    for i in range(1, 6):
        data = _cifar_pickle(folder / f"data_batch_{i}", 10, labels=list(range(10)))
    _cifar_pickle(folder / "test_batch", 10, protocol=4, labels=list(range(10)))
    source = open_source("cifar10", data_dir=tmp_path, download=False)
    assert [len(source.manifest.ids(s)) for s in ("train", "val", "test")] == [45, 5, 10]
    assert source.manifest.classes[9] == "truck"
    assert np.array_equal(source.reader.read(49)[:, :, 2].ravel(), data[9, 2048:])


def test_cifar100_in_torchvisions_files(tmp_path):
    folder = tmp_path / "cifar-100-python"
    names = [f"n{i:02d}" for i in range(100)]
    _cifar_pickle(folder / "train", 200, fine_labels=list(range(100)) * 2)
    _cifar_pickle(folder / "test", 100, fine_labels=list(range(100)))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    source = open_source("cifar100", data_dir=tmp_path, download=False)
    assert source.manifest.classes == tuple(names)
    assert len(source.manifest.ids("test")) == 100


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(tmp_path):
    class Bad:
        def __reduce__(self):
            return (subprocess.call, ([sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"],))

    folder = tmp_path / "cifar-10-batches-py"
    for i in range(1, 6):
        _cifar_pickle(folder / f"data_batch_{i}", 10, labels=list(range(10)))
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Bad()}))
    with pytest.raises(DataError, match=r"names subprocess\.call, and only numpy arrays are allowed"):
        open_source("cifar10", data_dir=tmp_path, download=False)
    assert not (tmp_path / "ran").exists()
    (folder / "test_batch").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="holds a list"):
        open_source("cifar10", data_dir=tmp_path, download=False)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.zeros((2, 5), np.uint8)}))
    with pytest.raises(DataError, match=r"no \(N, 3072\) bytes"):
        open_source("cifar10", data_dir=tmp_path, download=False)


def test_svhn_in_torchvisions_files(tmp_path):
    for part, count in (("train", 20), ("test", 10)):
        pixels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.resize(np.arange(1, 11), count).reshape(-1, 1)
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": labels})
    source = open_source("svhn", data_dir=tmp_path, download=False)
    assert source.manifest.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert np.array_equal(source.reader.read(29), pixels[:, :, :, 9])
    (tmp_path / "test_32x32.mat").write_bytes(b"x" * 200)
    with pytest.raises(DataError, match="cannot be read as SVHN"):
        open_source("svhn", data_dir=tmp_path, download=False)


def test_cifar10_as_folders_of_images(cifar10_small):
    direct = open_source("cifar10", data_dir=cifar10_small, download=False)
    by_parent = open_source("cifar10", data_dir=cifar10_small.parent, download=False)
    plain = open_source(cifar10_small)
    assert direct.manifest.table.equals(by_parent.manifest.table)
    assert direct.manifest.table.equals(plain.manifest.table)
    assert direct.name == "cifar10"
    assert np.unique(direct.manifest.counts("test")).tolist() == [len(direct.manifest.ids("test")) // 10]


def test_any_folder_of_images_is_not_taken_for_a_named_set(tmp_path):
    for name in "ab":
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "1.png")
    with pytest.raises(DataError, match="cifar10 is not in"):
        open_source("cifar10", data_dir=tmp_path, download=False)


@pytest.mark.flag("download")
@pytest.mark.parametrize("name", NAMES[3:])
def test_what_was_looked_for_is_listed(tmp_path, name):
    with pytest.raises(DataError, match="Looked for") as caught:
        open_source(name, data_dir=tmp_path, download=False)
    message = str(caught.value)
    assert "downloading is off (--no-download)" in message
    assert str(tmp_path / name) in message
    assert "train/<class>/" in message
    assert {"mnist": "t10k-images-idx3-ubyte", "svhn": "train_32x32.mat"}.get(name, "") in message


@pytest.mark.flag("download")
def test_what_is_absent_is_downloaded_by_torchvision(tmp_path, monkeypatch, capsys):
    def mnist(root, train, download):
        print("Downloading")
        assert download
        _mnist_files(tmp_path / "MNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "MNIST", mnist)
    assert len(open_source("mnist", data_dir=tmp_path).manifest) == 50
    assert capsys.readouterr().out == ""  # standard output belongs to results


def test_a_failed_download_says_why_and_what_was_looked_for(tmp_path, monkeypatch):
    def refuse(root, split, download):
        raise RuntimeError("Error downloading train_32x32.mat")

    monkeypatch.setattr(torchvision.datasets, "SVHN", refuse)
    with pytest.raises(DataError, match=r"could not be downloaded \(RuntimeError: Error downloading") as caught:
        open_source("svhn", data_dir=tmp_path)
    assert "Looked for" in str(caught.value)
