"""Which sample is which in scripts as tutorials write them: data modules, wrappers, several loaders, folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split
from watched import (
    BATCH,
    NUM_TRAIN,
    NUM_VAL,
    TRAIN,
    VAL,
    Asking,
    Asks,
    Module,
    answers,
    loaders,
    numbers,
    rows,
    trainer,
    visits,
)

from litscope.data.manifest import Manifest
from litscope.errors import ConfigError
from litscope.ledger.queries import confusion
from litscope.rundir import RunDir
from litscope.watch import Loader, Scope, with_ids

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Your `.*_dataloader`'s sampler has shuffling enabled:UserWarning"),
]


def manifest_of(run: Path) -> Manifest:
    return Manifest.read(run / "manifest.parquet")


class Anew(L.LightningDataModule):
    """Wraps in `setup()`, as the documentation of Lightning does; or in the loaders' hooks."""

    def __init__(self, in_setup: bool = True, is_split: bool = False) -> None:
        super().__init__()
        self.in_setup, self.is_split = in_setup, is_split
        self.setup_calls = 0

    def setup(self, stage: str) -> None:
        self.setup_calls += 1
        x, y = TRAIN.tensors
        self.train_data: Any = TensorDataset(x.clone(), y)
        self.val_data: Any = TensorDataset(VAL.tensors[0].clone(), VAL.tensors[1])
        if self.is_split:
            whole = with_ids(self.train_data) if self.in_setup else self.train_data
            self.train_data, self.val_data = random_split(whole, [80, 20], torch.Generator().manual_seed(0))
        elif self.in_setup:
            self.train_data, self.val_data = with_ids(self.train_data), with_ids(self.val_data)

    def wrapped(self, data: Any) -> Any:
        return data if self.in_setup else with_ids(data)

    def train_dataloader(self) -> Any:
        return DataLoader(self.wrapped(self.train_data), BATCH, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.wrapped(self.val_data), BATCH)

    def test_dataloader(self) -> Any:
        return self.val_dataloader()

    def predict_dataloader(self) -> Any:
        return self.train_dataloader()


# ---- made anew -----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_setup", [True, False])
def test_a_data_module_that_wraps_in_setup_or_in_its_loaders(tmp_path: Path, in_setup: bool) -> None:
    run, data, module = tmp_path / "run", Anew(in_setup), Module()
    one = trainer(Scope(run), max_epochs=2, reload_dataloaders_every_n_epochs=1)
    one.fit(module, datamodule=data)
    one.validate(module, datamodule=data, verbose=False)
    assert data.setup_calls == 2
    assert len(manifest_of(run)) == NUM_TRAIN + NUM_VAL
    assert visits(run) == {
        (0, "train", "train"): (NUM_TRAIN, NUM_TRAIN),
        (1, "train", "train"): (NUM_TRAIN, NUM_TRAIN),
        (0, "val", "eval"): (NUM_VAL, NUM_VAL),
        (1, "val", "eval"): (NUM_VAL, NUM_VAL),
        (2, "val", "eval"): (NUM_VAL, NUM_VAL),
    }


def test_discards_labels_and_weights_follow_into_what_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, labels = tmp_path / "run", {}

    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        if module.training and module.trainer.current_epoch == 2:
            labels.update(zip(ids.tolist(), y.tolist(), strict=True))
        logits = module.net(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits}

    wishes = {
        3: ("discard", {"sample_id": [NUM_VAL + 5, 2]}),  # the sanity check meets validation first
        4: ("relabel", {"sample_id": [NUM_VAL + 6], "label": "2"}),
    }
    one = trainer(Scope(run), Asking(Asks(run, monkeypatch, wishes)), reload_dataloaders_every_n_epochs=1)
    one.fit(Module(step), datamodule=Anew(in_setup=False))
    assert [status for _, status, _ in answers(run)] == ["applied", "applied"]
    assert labels[NUM_VAL + 6] == 2
    seen = rows(run, f"select distinct epoch from signals where sample_id = {NUM_VAL + 5} and epoch > 0")
    assert seen == rows(run, "select 1 from signals where sample_id = 2 and epoch > 0") == []
    assert visits(run)[2, "train", "train"] == (NUM_TRAIN - 1, NUM_TRAIN - 1)
    assert visits(run)[2, "val", "eval"] == (NUM_VAL - 1, NUM_VAL - 1)


def test_other_labels_are_other_samples_unless_names_say_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pseudo(Anew):
        def __init__(self, keys: list[str] | None) -> None:
            super().__init__()
            self.keys, self.round = keys, 0

        def train_dataloader(self) -> Any:
            self.round += 1
            labels = TRAIN.tensors[1].roll(self.round)
            return DataLoader(with_ids(TensorDataset(TRAIN.tensors[0], labels), keys=self.keys), BATCH)

    for name, keys in (("numbers", None), ("names", [f"image{i}" for i in range(NUM_TRAIN)])):
        one = trainer(Scope(tmp_path / name), max_epochs=2, reload_dataloaders_every_n_epochs=1)
        one.fit(Module(), datamodule=Pseudo(keys))
        told = capsys.readouterr().err
        if keys is None:
            assert "as long as one before (100 samples), and has other labels" in told
            assert len(manifest_of(tmp_path / name)) == 2 * NUM_TRAIN + NUM_VAL
        else:
            assert "the samples of train are not as they were" in told
            assert len(manifest_of(tmp_path / name)) == NUM_TRAIN + NUM_VAL


def test_folds_of_one_process_have_a_run_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrapped data set for all; what was decided in one fold ends with it."""
    whole = with_ids(TRAIN)
    for fold in range(3):
        run = tmp_path / str(fold)
        held_out = list(range(fold, NUM_TRAIN, 3))
        kept = [i for i in range(NUM_TRAIN) if i % 3 != fold]
        wish = {1: ("discard", {"sample_id": [kept[0]]})} if fold == 0 else {}
        one = trainer(Scope(run), Asking(Asks(run, monkeypatch, wish)), max_epochs=2)
        one.fit(Module(), DataLoader(Subset(whole, kept), BATCH), DataLoader(Subset(whole, held_out), BATCH))
        manifest = manifest_of(run)
        assert (len(manifest), manifest.ids("val").tolist()) == (NUM_TRAIN, held_out)
        assert manifest.keys[held_out[0]] == f"train/{held_out[0]:05d}"
        assert visits(run)[1, "train", "train"][1] == len(kept) - (fold == 0)
        assert not whole.has_discarded


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_worker_processes_of_a_run_that_goes_on_have_its_ids(tmp_path: Path) -> None:
    """The sanity check meets validation first this time; workers read before the training begins."""
    run = tmp_path / "run"
    first = trainer(Scope(run), max_epochs=1, num_sanity_val_steps=0)
    first.fit(Module(), *loaders())
    first.save_checkpoint(tmp_path / "x.ckpt")
    before = manifest_of(run).table
    train, val = DataLoader(with_ids(TRAIN), BATCH, shuffle=True, num_workers=1), DataLoader(with_ids(VAL), BATCH)
    again = trainer(Scope(run), max_epochs=2, num_sanity_val_steps=1)
    again.fit(Module(), train, val, ckpt_path=tmp_path / "x.ckpt", weights_only=False)
    assert manifest_of(run).table.equals(before)
    wrong = "select count(*) from signals join manifest m using (sample_id) where signals.label != m.label"
    assert rows(run, wrong) == [(0,)]
    assert visits(run)[1, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)


# ---- predictions ---------------------------------------------------------------------------------


def test_predictions_are_all_there_in_order_and_no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Predicts(Module):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return batch[2]

    run, data = tmp_path / "run", with_ids(TRAIN)
    wish = {2: ("discard", {"sample_id": [NUM_VAL, NUM_VAL + 7]})}
    one, module = trainer(Scope(run), Asking(Asks(run, monkeypatch, wish)), max_epochs=2), Predicts()
    train, val = DataLoader(data, batch_size=BATCH), loaders()[1]
    one.fit(module, train, val)
    assert visits(run)[1, "train", "train"][1] == NUM_TRAIN - 2
    other = DataLoader(with_ids(numbers(17, 5)), batch_size=BATCH)
    for loader, first, count in (
        (train, NUM_VAL, NUM_TRAIN),
        (Loader(data, batch_size=BATCH), NUM_VAL, NUM_TRAIN),
        (other, 0, 17),
    ):
        for someone in (one, trainer()):
            found = torch.cat(someone.predict(module, loader))
            assert found.tolist() == list(range(first, first + count))
    assert torch.cat([ids for _, _, ids in train]).tolist() == list(range(NUM_VAL, NUM_VAL + NUM_TRAIN))
    assert len(manifest_of(run)) == NUM_TRAIN + NUM_VAL
    assert set(visits(run)) == {(e, *rest) for e in range(2) for rest in (("train", "train"), ("val", "eval"))}


# ---- wrappers ------------------------------------------------------------------------------------


class TransformedSubset(Dataset[Any]):
    """As it stands in a hundred answers to "different transforms for train and val after random_split"."""

    def __init__(self, subset: Any, transform: Callable[[Any], Any], hands_on: bool = True) -> None:
        self.subset, self.transform, self.hands_on = subset, transform, hands_on

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, index: int) -> Any:
        x, y, *ids = self.subset[index]
        return (self.transform(x), y, *ids) if self.hands_on else (self.transform(x), y)


def test_a_wrapper_around_a_random_split_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    parts = random_split(with_ids(TRAIN), [80, 20], torch.Generator().manual_seed(0))
    train, val = (TransformedSubset(part, lambda x: x * 1.01) for part in parts)
    gone = [int(parts[0].indices[3]), int(parts[1].indices[4])]
    asks = Asks(run, monkeypatch, {2: ("discard", {"sample_id": gone})})
    trainer(Scope(run), Asking(asks), max_epochs=2).fit(
        Module(), DataLoader(train, BATCH, shuffle=True), DataLoader(val, BATCH)
    )
    manifest = manifest_of(run)
    assert len(manifest) == NUM_TRAIN
    assert manifest.ids("val").tolist() == sorted(parts[1].indices)
    assert visits(run)[1, "train", "train"] == (79, 79)
    assert visits(run)[1, "val", "eval"] == (19, 19)


def test_concatenations_are_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    more = numbers(40, 3)
    named = with_ids(more, keys=[f"extra/{i}" for i in range(40)])
    train = ConcatDataset([with_ids(TRAIN), Subset(named, list(range(30)))])
    asks = Asks(run, monkeypatch, {2: ("discard", {"sample_id": [NUM_TRAIN + 3]})})
    val = DataLoader(Subset(named, list(range(30, 40))), BATCH)
    trainer(Scope(run), Asking(asks), max_epochs=2, num_sanity_val_steps=0).fit(Module(), DataLoader(train, BATCH), val)
    manifest = manifest_of(run)
    assert len(manifest) == NUM_TRAIN + 40
    assert manifest.keys[NUM_TRAIN] == "extra/0"
    assert manifest.ids("val").tolist() == list(range(NUM_TRAIN + 30, NUM_TRAIN + 40))
    assert visits(run)[1, "train", "train"] == (129, 129)
    assert rows(run, "select label = (select label from manifest m where m.sample_id = s.sample_id) from signals s "
                     "group by all") == [(True,)]  # fmt: skip


def test_a_wrapper_that_loses_the_ids_is_refused(tmp_path: Path) -> None:
    def step(module: Any, batch: Any) -> Any:
        logits = module.net(batch[0])
        return {"loss": F.cross_entropy(logits, batch[1]), "logits": logits, "label": batch[1]}

    train = TransformedSubset(with_ids(TRAIN), lambda x: x, hands_on=False)
    with pytest.raises(ConfigError, match=r"sample_id 0, 1, 2, \.\.\.: this batch was read from TransformedSubset"):
        trainer(Scope(tmp_path / "run")).fit(Module(step), DataLoader(train, BATCH))
    assert visits(tmp_path / "run") == {}


class Twice(Dataset[Any]):
    """Longer than what it draws from, so nobody can tell from outside which item is which."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return 2 * len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index // 2]


class Backwards(TransformedSubset):
    """As long as what it draws from, and yet in another order."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(len(self) - 1 - index)


def test_what_cannot_be_looked_through_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    whole = with_ids(TRAIN)
    asks = Asks(run, monkeypatch, {12: ("discard", {"sample_id": [0]})})
    train, val = (Twice(Subset(whole, range(*limits))) for limits in ((0, 70), (70, 100)))
    one = trainer(Scope(run), Asking(asks), max_epochs=2)
    one.fit(Module(), DataLoader(train, BATCH, shuffle=True), DataLoader(val, BATCH))
    told = capsys.readouterr().err
    assert told.count("Twice cannot be looked through: which of the 100 samples") == 1
    assert visits(run)[1, "train", "train"] == (140, 70)
    assert visits(run)[1, "val", "eval"] == (60, 30)
    assert manifest_of(run).ids("val").tolist() == list(range(70, 100))
    assert [(status, "no loader that litscope can steer" in reason) for _, status, reason in answers(run)] == [
        ("refused", True)
    ]


def test_a_wrapper_in_another_order_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    trainer(Scope(run), max_epochs=1).fit(Module(), DataLoader(Backwards(with_ids(TRAIN), lambda x: x), BATCH))
    assert "Backwards reads other items of its with_ids data set than those it is asked for" in capsys.readouterr().err
    assert visits(run)[0, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)


# ---- several loaders -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_anew", [False, True])
@pytest.mark.parametrize("sanity", [0, 2])
def test_train_wins_and_keys_are_the_same_whatever_the_sanity_check_does(
    tmp_path: Path, sanity: int, is_anew: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train = DataLoader(with_ids(TRAIN), BATCH)
    again = DataLoader(with_ids(TRAIN), BATCH) if is_anew else train
    vals = [DataLoader(with_ids(VAL), BATCH), DataLoader(with_ids(numbers(NUM_VAL, 4)), BATCH), again]
    trainer(Scope(run), max_epochs=1, num_sanity_val_steps=sanity).fit(Module(), train, vals)
    manifest = manifest_of(run)
    assert len(manifest) == NUM_TRAIN + 2 * NUM_VAL
    by_label = {key: int(label) for key, label in zip(manifest.keys, manifest.labels, strict=True)}
    expected = {f"train/{i:05d}": int(label) for i, label in enumerate(TRAIN.tensors[1])}
    expected |= {f"val/{i:05d}": int(label) for i, label in enumerate(VAL.tensors[1])}
    expected |= {f"val-2/{i:05d}": int(label) for i, label in enumerate(numbers(NUM_VAL, 4).tensors[1])}
    assert by_label == expected
    assert visits(run) == {
        (0, "train", "train"): (NUM_TRAIN, NUM_TRAIN),
        (0, "train", "eval"): (NUM_TRAIN, NUM_TRAIN),
        (0, "val", "eval"): (2 * NUM_VAL, 2 * NUM_VAL),
    }
    assert ("a loader of val shows samples of train" in capsys.readouterr().err) == (sanity == 0)


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_split_data_set_has_the_same_keys_whatever_is_met_first(tmp_path: Path, sanity: int) -> None:
    run = tmp_path / "run"
    trainer(Scope(run), max_epochs=1, num_sanity_val_steps=sanity).fit(Module(), datamodule=Anew(is_split=True))
    manifest = manifest_of(run)
    assert manifest.keys.tolist() == [f"train/{i:05d}" for i in range(NUM_TRAIN)]
    assert len(manifest.ids("val")) == 20


def test_names_that_two_data_sets_share_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train, val = (with_ids(data, keys=[f"{i}.png" for i in range(len(data))]) for data in (TRAIN, VAL))
    trainer(Scope(run), max_epochs=1).fit(Module(), DataLoader(train, BATCH), DataLoader(val, BATCH))
    manifest = manifest_of(run)
    assert manifest.keys[manifest.ids("train")].tolist() == [f"{i}.png" for i in range(NUM_TRAIN)]
    assert manifest.keys[manifest.ids("val")].tolist() == [f"val/{i}.png" for i in range(NUM_VAL)]
    assert "30 samples of val have names that other samples have already, such as '0.png'" in capsys.readouterr().err


def test_two_views_of_one_folder_are_the_same_samples(tmp_path: Path) -> None:
    """A data set with augmentation for training, the same one without for validation, and a split by indices."""
    run = tmp_path / "run"
    keys = [f"cats/{i}.png" for i in range(NUM_TRAIN)]
    augmented, plain = (with_ids(TensorDataset(x, TRAIN.tensors[1]), keys=keys) for x in TRAIN.tensors[:1] * 2)
    order = torch.randperm(NUM_TRAIN, generator=torch.Generator().manual_seed(0)).tolist()
    train, val = DataLoader(Subset(augmented, order[:80]), BATCH), DataLoader(Subset(plain, order[80:]), BATCH)
    trainer(Scope(run), max_epochs=1).fit(Module(), train, val)
    manifest = manifest_of(run)
    assert manifest.keys.tolist() == keys
    assert manifest.ids("val").tolist() == sorted(order[80:])


# ---- evaluation after the training ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_validation_after_the_fit_is_a_pass_of_its_own(tmp_path: Path) -> None:
    run, module = tmp_path / "run", Module()
    saves = ModelCheckpoint(tmp_path / "own", monitor="train_loss", mode="max", save_on_train_epoch_end=True)
    one = trainer(Scope(run), saves, enable_checkpointing=True)
    one.fit(module, *loaders())
    before = rows(run, "select sample_id, last_loss from scores order by all")
    pass_of_the_fit = confusion(RunDir(run)).sum()
    one.validate(module, loaders()[1], ckpt_path="best", verbose=False, weights_only=False)
    one.validate(module, loaders()[1], ckpt_path="best", verbose=False, weights_only=False)
    of_val = {epoch: count for (epoch, split, _), count in visits(run).items() if split == "val"}
    assert of_val == dict.fromkeys(range(5), (NUM_VAL, NUM_VAL))
    assert rows(run, "select sample_id, last_loss from scores order by all") == before
    assert confusion(RunDir(run)).sum() == pass_of_the_fit == NUM_VAL
    losses = [
        dict(rows(run, f"select sample_id, loss from signals where epoch = {e} and split = 'val'")) for e in (2, 3, 4)
    ]
    assert losses[0] != losses[1] == losses[2]
    one.fit_loop.max_epochs = 4
    one.fit(module, *loaders())
    assert visits(run)[3, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    assert rows(run, "select sample_id, last_loss from scores where split = 'val' order by all") != before
