"""Data that change while a script runs, and labels that are not what they were: right, refused or said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from watched import BATCH, VAL, Module, numbers, rows, trainer

from litscope.errors import ConfigError
from litscope.watch import Scope, with_ids

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
]


class Silent(Dataset[Any]):
    """Samples without names, whose labels only their items tell; sample i has the number i as its first feature."""

    def __init__(self, count: int) -> None:
        self.x, self.given = numbers(count, 0).tensors
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.given[index]


class After(L.Callback):
    """Does something when an epoch is over."""

    def __init__(self, does: Any) -> None:
        self.does = does

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.does()


def fit(run: Path, train: Any, *callbacks: Any, **options: Any) -> None:
    trainer(Scope(run), *callbacks, **{"max_epochs": 2, **options}).fit(
        Module(), *([train] if isinstance(train, L.LightningDataModule) else [train, DataLoader(with_ids(VAL), BATCH)])
    )


@pytest.mark.parametrize("change", [10, -10])
def test_a_data_set_of_another_length_is_refused(tmp_path: Path, change: int) -> None:
    data = Silent(40)

    def changes() -> None:
        data.count += change

    with pytest.raises(ConfigError, match=f"Silent had 40 items when with_ids wrapped it, and has {40 + change} now"):
        fit(tmp_path / "run", DataLoader(with_ids(data), BATCH), After(changes))


def test_a_subset_whose_indices_change_has_its_new_samples_in_training(tmp_path: Path) -> None:
    pool = Subset(with_ids(Silent(40)), list(range(20)))

    def labels_more() -> None:
        pool.indices = list(range(10, 40))

    fit(tmp_path / "run", DataLoader(pool, BATCH), After(labels_more))
    found = rows(tmp_path / "run", "select key from manifest where split = 'train' order by all")
    assert found == [(f"train/{i:05d}",) for i in range(40)]
    assert rows(tmp_path / "run", "select count(*) from signals where epoch = 1 and phase = 'train'") == [(20,)]


class Drawn(L.LightningDataModule):
    """Draws other training samples in each epoch; the data set is wrapped after that."""

    def __init__(self, is_subset: bool) -> None:
        super().__init__()
        self.is_subset, self.round = is_subset, 0

    def train_dataloader(self) -> Any:
        self.round += 1
        data = Silent(40)
        if self.is_subset:
            return DataLoader(with_ids(Subset(data, list(range(self.round * 10, self.round * 10 + 20)))), BATCH)
        data.x, data.given = data.x.roll(self.round, 0), data.given.roll(self.round)
        return DataLoader(with_ids(data), BATCH)

    def val_dataloader(self) -> Any:
        return DataLoader(with_ids(VAL), BATCH)


def test_another_subset_without_names_holds_other_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path / "run", Drawn(is_subset=True), reload_dataloaders_every_n_epochs=1)
    assert "a data set of train is as long as one before (20 samples), and is another subset" in capsys.readouterr().err
    assert rows(tmp_path / "run", "select count(*) from manifest where split = 'train'") == [(40,)]
    differing = "select 1 from signals s join manifest m using (sample_id) where s.label != m.label"
    assert rows(tmp_path / "run", differing) == []


def test_other_samples_under_the_same_numbers_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path / "run", Drawn(is_subset=False), reload_dataloaders_every_n_epochs=1, max_epochs=3)
    told = capsys.readouterr().err
    assert told.count("of the 10 samples of train in a batch have another label than before") == 1
    assert "samples of val" not in told


class Transformed(Silent):
    """As of torchvision: its labels are those before the `target_transform`."""

    classes = ("cat", "dog", "eel")

    def __init__(self, count: int, is_known: bool) -> None:
        super().__init__(count)
        self.targets = self.given
        self.to_other = lambda label: (int(label) + 1) % 3
        self.target_transform = self.to_other if is_known else None

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.to_other(self.targets[index])


@pytest.mark.parametrize("is_known", [True, False])
def test_labels_are_those_of_the_items(tmp_path: Path, is_known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    fit(tmp_path / "run", DataLoader(with_ids(Transformed(40, is_known)), BATCH), max_epochs=1)
    differing = "select count(*) from signals s join manifest m using (sample_id) where s.label != m.label"
    assert rows(tmp_path / "run", differing) == [(0 if is_known else 40,)]
    assert ("10 of the 10 samples of train" in capsys.readouterr().err) is not is_known


class Sized(Sampler[Any]):
    """Batches of items and the size at which each is to be read."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        yield from ([(index, 32) for index in range(start, start + 10)] for start in range(0, 40, 10))


class ReadAtSize(Dataset[Any]):
    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        return self.data[index[0]]


def test_items_that_are_not_asked_for_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path / "inside", DataLoader(ReadAtSize(with_ids(Silent(40))), batch_sampler=Sized()), max_epochs=1)
    assert "ReadAtSize is asked for items by (0, 32), not by their number" in capsys.readouterr().err
    assert rows(tmp_path / "inside", "select count(distinct sample_id) from signals where phase = 'train'") == [(40,)]
    with pytest.raises(ConfigError, match=r"A sampler asks for the item \(0, 32\)"):
        fit(tmp_path / "outside", DataLoader(with_ids(ReadAtSize(Silent(40))), batch_sampler=Sized()), max_epochs=1)


def test_wrapping_twice_is_wrapping_once() -> None:
    data = with_ids(Silent(4))
    assert with_ids(data) is data
    with pytest.raises(ConfigError, match="carry ids already"):
        with_ids(data, place="second")


def test_a_name_that_items_have_already_is_not_replaced() -> None:
    class Named(Silent):
        def __getitem__(self, index: int) -> Any:
            return {"x": self.x[index], "sample_id": f"image{index}"}

    with pytest.raises(ConfigError, match="Items have a sample_id of their own"):
        with_ids(Named(4))[0]
