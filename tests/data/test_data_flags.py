"""What the flags of the data path do: from a recipe's words to the batches, the processes and the files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from litscope.config.flags import recipe_from_keywords
from litscope.curation.recipe_source import make_source
from litscope.data.datamodule import ClassificationData
from litscope.training.build import make_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twenty gray images of 24 pixels."""
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 255, (24, 24), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number:02}.png")
    return tmp_path / "images"


def opened(dataset: Path | str, **flags: Any) -> ClassificationData:
    """The data of a recipe with these flags, open; what a run would choose is given here."""
    recipe = recipe_from_keywords(dataset=str(dataset), **{"batch_size": 8, "num_workers": 0, **flags})
    return make_data(recipe, make_source(recipe)).open()


def first_batch(data: ClassificationData) -> Any:
    return next(iter(data.train_dataloader()))


@pytest.mark.flag("dataset")
def test_dataset(folder: Path) -> None:
    assert opened("iris").classes == ("setosa", "versicolor", "virginica")
    assert opened(folder).classes == ("a", "b")


@pytest.mark.flag("batch_size")
@pytest.mark.parametrize("size", [4, 16])
def test_batch_size(folder: Path, size: int) -> None:
    assert len(first_batch(opened(folder, batch_size=size))["label"]) == size


@pytest.mark.flag("num_workers")
@pytest.mark.parametrize("count", [0, 2])
def test_num_workers(folder: Path, count: int) -> None:
    before = decoding_threads()
    data = opened(folder, cache=False, num_workers=count)
    batches = iter(data.train_dataloader())
    next(batches)
    assert len(decoding_threads() - before) == count
    data.teardown()
    assert decoding_threads() == before


def decoding_threads() -> set[threading.Thread]:
    """Decoding threads of this process that are alive."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("litscope-decode")}


@pytest.mark.flag("pin_memory")
@pytest.mark.parametrize("cache", [True, False])
def test_pin_memory(folder: Path, cache: bool) -> None:
    """Page-locked where there is a device to copy to; elsewhere the flag changes nothing."""
    for pins in (True, False):
        data = opened(folder, cache=cache, pin_memory=pins)
        assert first_batch(data)["image"].is_pinned() is (pins and torch.cuda.is_available())
        data.teardown()


@pytest.mark.flag("cache", "cache_dir")
def test_cache_and_cache_dir(folder: Path, tmp_path: Path) -> None:
    assert not opened(folder, cache=False, cache_dir=str(tmp_path / "off")).report.unreadable
    assert not list(tmp_path.glob("off/**/pixels.npy"))
    opened(folder, cache=True, cache_dir=str(tmp_path / "on"))
    (pixels,) = tmp_path.glob("on/**/pixels.npy")
    assert np.load(pixels, mmap_mode="r").shape == (40, 24, 24, 1)
    opened(folder, cache=True)
    assert len(list(Path(os.environ["LITSCOPE_CACHE"]).glob("**/pixels.npy"))) == 1
