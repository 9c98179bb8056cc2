"""Thumbnails: a watched run of images keeps pictures of what people look at first, and its hints are its own."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from watched import Module, scoped_fit, trainer

from litscope.cli import main
from litscope.rundir import RunDir
from litscope.watch import Scope, thumbnails, with_ids
from litscope.watch.samples.roster import Roster
from litscope.watch.thumbnails import keep_thumbnails, pixels_of

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")


class Images(Dataset[Any]):
    """30 pictures of one colour; reading draws a random number, as an augmentation does.

    Args:
        breaks_at: the item that cannot be read, once the training is over.
    """

    def __init__(self, breaks_at: int | None = None) -> None:
        self.breaks_at, self.num_read = breaks_at, 0

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        self.num_read += 1
        if index == self.breaks_at and self.num_read > 60:
            raise OSError("gone")
        torch.rand(1)
        return torch.full((3, 120, 90), index / 30), index % 3


def fit(folder: Path, data: Dataset[Any]) -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))

    def step(module: Any, batch: Any) -> Any:
        logits = module.net(batch[0])
        return {"loss": F.cross_entropy(logits, batch[1]), "logits": logits}

    module = Module(step)
    module.net = net
    loader = DataLoader(with_ids(data), 10)
    trainer(Scope(folder), max_epochs=2, limit_val_batches=0).fit(module, loader, loader)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "run"
    fit(folder, Images())
    return folder


@pytest.mark.pictures
def test_sheets_are_drawn_from_what_the_run_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = pq.read_table(run / "thumbnails.parquet")
    assert sorted(kept["sample_id"].to_pylist()) == list(range(30))
    for command in ("suspects", "worst"):
        assert main([command, str(run)]) == 0
        told = capsys.readouterr().err
        assert "contact sheet: " in told
        assert "without a picture" not in told
    assert (run / "figures" / "worst-train-loss.png").exists()


def test_hints_are_those_of_a_watched_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suspects", str(run), "--no-sheet"]) == 0
    told = capsys.readouterr().err
    assert "recall is not known: it takes canaries, which only a run of `litscope fit` plants." in told
    for command in (["scores"], ["sample", "3"], ["worst", "--split", "val"], ["confusions", "--split", "train"]):
        main([command[0], str(run), *command[1:]])
        told += capsys.readouterr().err
    for wrong in ("--canaries", "--no-ledger", "--resume", "not where they were", "--epochs"):
        assert wrong not in told


def test_pictures_are_small_and_reading_gives_random_numbers_back(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = pq.read_table(run / "thumbnails.parquet")["png"][0].as_py()
    assert Image.open(BytesIO(png)).size == (72, 96)
    data, roster = with_ids(Images()), Roster(None)
    roster.add(data, "train")
    folder = RunDir(shutil.copytree(run, tmp_path / "copy"))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    keep_thumbnails(folder, roster)
    assert torch.rand(1) == expected
    monkeypatch.setattr(thumbnails, "READ_S", -1.0)
    keep_thumbnails(folder, roster)
    assert pq.read_table(folder.thumbnails).num_rows == 1, "time was over"


@pytest.mark.pictures
def test_a_sheet_says_what_it_lacks(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    kept = pq.read_table(copy / "thumbnails.parquet").slice(0, 1)
    pq.write_table(kept, copy / "thumbnails.parquet")
    assert main(["worst", str(copy), "-n", "30"]) == 0
    told = capsys.readouterr().err
    assert "29 samples without a picture: when it ended, the run kept" in told
    assert "contact sheet: " in told
    whole = bytearray((run / "thumbnails.parquet").read_bytes())
    whole[100] ^= 1
    (copy / "thumbnails.parquet").write_bytes(whole)
    assert main(["worst", str(copy)]) == 0
    assert "No contact sheet: " in (told := capsys.readouterr().err)
    assert "thumbnails.parquet is damaged: its bytes are not those that were written." in told


def test_a_data_set_that_fails_afterwards_fails_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path / "run", Images(breaks_at=7))
    assert "because reading one more failed: OSError('gone')" in capsys.readouterr().err
    assert pq.read_table(tmp_path / "run" / "thumbnails.parquet").num_rows < 30


def test_rows_of_numbers_have_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scoped_fit(tmp_path / "run", max_epochs=1)
    assert not (tmp_path / "run" / "thumbnails.parquet").exists()
    capsys.readouterr()
    assert main(["worst", str(tmp_path / "run")]) == 0
    assert "sheet" not in capsys.readouterr().err
    (tmp_path / "run" / "summary.json").unlink()
    assert main(["worst", str(tmp_path / "run")]) == 0
    assert "No contact sheet: a watched run keeps pictures of its samples when it has" in capsys.readouterr().err


PIXELS = np.zeros((20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        ((Image.fromarray(PIXELS), 1), (20, 30, 3)),
        ({"pixel_values": torch.zeros(3, 20, 30), "labels": 1}, (20, 30, 3)),
        ((torch.zeros(1, 28, 28, dtype=torch.bfloat16), 1), (28, 28, 1)),
        ((np.zeros((28, 28)), 1), (28, 28)),
        (PIXELS, (20, 30, 3)),
        (Image.fromarray(PIXELS).convert("P"), (20, 30, 3)),
        ((torch.zeros(100), 1), None),
        ((torch.zeros(40, 64, 64), 1), None),
        ((torch.zeros(3, 4), 1), None),
        ({"input_ids": torch.zeros(5)}, None),
        (("a sentence", 1), None),
        ((), None),
    ],
)
def test_what_counts_as_an_image(item: Any, shape: tuple[int, ...] | None) -> None:
    found = pixels_of(item)
    assert (None if found is None else found.shape) == shape
