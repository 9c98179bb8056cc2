"""Scripts as tutorials write them, under Scope: what is recorded of each, or what its author is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
from watched import BATCH, NUM_TRAIN, NUM_VAL, TRAIN, VAL, Module, ends, loaders, rows, scoped_fit, trainer, visits

from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir, read_lines
from litscope.watch import Scope, record, run, with_ids

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")

LOSS = nn.BCEWithLogitsLoss()


def bare(module: Any, batch: Any) -> Any:
    """The step of every first tutorial."""
    return F.cross_entropy(module.net(batch[0]), batch[1])


# ---- what a step returns -------------------------------------------------------------------------


def test_a_bare_loss_is_told_what_to_return(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'training_step returned its loss alone.*no logits\. Return \{"loss"'):
        scoped_fit(tmp_path / "run", module=Module(bare))
    assert ends(tmp_path / "run")["status"] == "failed"


def test_a_validation_that_only_logs_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Logs(Module):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", bare(self, batch))

    scoped_fit(tmp_path / "run", module=Logs(), max_epochs=2)
    told = capsys.readouterr().err
    assert told.count("warning: validation is not recorded. validation_step returned None: Scope finds no logits") == 1
    assert {split for _, split, _ in visits(tmp_path / "run")} == {"train"}
    assert epoch_rows(RunDir(tmp_path / "run"))[-1]["val_loss"] > 0


def test_a_run_without_validation_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trains(L.LightningModule):
        training_step, configure_optimizers, shown = Module.training_step, Module.configure_optimizers, Module.shown

        def __init__(self) -> None:
            super().__init__()
            own = Module()
            self.net, self.step, self.rates = own.net, None, own.rates

    train, val = loaders()
    trainer(Scope(tmp_path / "a"), max_epochs=1).fit(Trains(), train)
    assert "no validation is recorded: the Trainer was given no validation loader;" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="have no `validation_step`"):
        trainer(Scope(tmp_path / "b"), max_epochs=1).fit(Trains(), train, val)
    assert capsys.readouterr().err.count("no validation is recorded: the module has no validation_step;") == 1
    trainer(Scope(tmp_path / "c"), max_epochs=1, limit_val_batches=0).fit(Module(), train, val)
    assert "no validation is recorded: limit_val_batches is 0;" in capsys.readouterr().err
    trainer(Scope(tmp_path / "d"), max_epochs=1).fit(Module(), train, val)
    assert "no validation" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
def test_a_batch_that_the_step_skips_is_no_mistake(tmp_path: Path) -> None:
    class Skips(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 4 else self.shown(batch)

    scoped_fit(tmp_path / "run", module=Skips(), max_epochs=1)
    assert visits(tmp_path / "run")[0, "train", "train"] == (NUM_TRAIN - BATCH, NUM_TRAIN - BATCH)


# ---- a binary loss -------------------------------------------------------------------------------


def test_a_binary_loss_with_float_labels_in_a_column(tmp_path: Path) -> None:
    def step(module: Any, batch: Any) -> Any:
        x, y, _ = batch
        z = module.net(x)[:, :1]
        return {"loss": LOSS(z, y), "logits": z}

    data = TensorDataset(TRAIN.tensors[0], (TRAIN.tensors[1] == 0).float()[:, None])
    loader = DataLoader(with_ids(data), BATCH)
    folder = tmp_path / "run"
    trainer(Scope(folder), max_epochs=2).fit(Module(step), loader, loader)
    assert visits(folder)[1, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    manifest = Manifest.read(folder / "manifest.parquet")
    assert manifest.classes == ("0", "1")
    assert manifest.labels[:NUM_TRAIN].tolist() == (TRAIN.tensors[1] == 0).long().tolist()
    assert rows(folder, "select count(*) from signals where abs(loss + ln(p_label)) > 1e-4 or pred > 1") == [(0,)]


@pytest.mark.parametrize("form", [torch.tensor([1.0]), torch.tensor(1.0), 1.0, torch.tensor([0, 1, 0])])
def test_a_relabelled_item_keeps_the_form_of_its_label(form: Any) -> None:
    data = with_ids([(torch.zeros(2), form)])
    data.relabel({0: 0})
    label = data[0][1]
    assert type(label) is type(form)
    if isinstance(form, torch.Tensor):
        assert (label.dtype, label.shape) == (form.dtype, form.shape)
        assert label.tolist() == [1, 0, 0] if form.numel() == 3 else label.sum() == 0
    else:
        assert label == 0.0


# ---- models that are no classifiers --------------------------------------------------------------


class Gan(L.LightningModule):
    """Two optimizers, by hand; what a sample's own number is: how real the discriminator takes it for."""

    def __init__(self, records: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(2, 4), nn.Linear(4, 1)
        self.records = records

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, _, ids = batch
        for_generator, for_discriminator = self.optimizers()
        made = self.generator(torch.randn(len(x), 2))
        ones = torch.ones(len(x), 1)
        for_generator.zero_grad()
        self.manual_backward(LOSS(self.discriminator(made), ones))
        for_generator.step()
        real = self.discriminator(x)
        for_discriminator.zero_grad()
        self.manual_backward(LOSS(real, ones) + LOSS(self.discriminator(made.detach()), 0 * ones))
        for_discriminator.step()
        if self.records:
            record(sample_id=ids, signals={"realness": real.sigmoid()})

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.generator, self.discriminator)]


def test_a_gan_records_how_real_the_discriminator_takes_each_sample_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    trainer(Scope(folder), max_epochs=2).fit(Gan(), loaders()[0])
    query = "select key, name, avg(value) from custom join manifest using (sample_id) group by all"
    told = "signals of its own and no logits, so there are no scores, suspects, worst or confusions"
    assert f'{told}. Ask for them: litscope sql {folder} "{query}"' in capsys.readouterr().err
    assert len(rows(folder, query)) == NUM_TRAIN
    query = "select epoch, count(distinct sample_id), min(value) > 0 from custom where name = 'realness' group by all"
    assert sorted(rows(folder, query)) == [(0, NUM_TRAIN, True), (1, NUM_TRAIN, True)]
    assert rows(folder, "select distinct step from custom where epoch = 0 order by 1")[:3] == [(0,), (2,), (4,)]
    assert [(row["step"], row["num_samples"]) for row in epoch_rows(RunDir(folder))] == [(20, 100), (40, 100)]
    assert Manifest.read(folder / "manifest.parquet").labels.tolist() == TRAIN.tensors[1].tolist()
    for command in ("scores", "suspects", "worst", "confusions"):
        assert main([command, str(folder)]) == 2
        assert told in capsys.readouterr().err, command
    assert main(["sample", str(folder), "3"]) == 0


def test_a_gan_that_tells_nothing_is_told_what_it_can_record(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training_step returned None.*signals=\{\.\.\.\}\) takes numbers"):
        trainer(Scope(tmp_path / "run"), max_epochs=1).fit(Gan(records=False), loaders()[0])


def test_lines_of_the_steps_come_as_often_as_asked_where_a_batch_takes_two(tmp_path: Path) -> None:
    class Tells(Gan):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            return {"loss": torch.tensor(1.0)}

    trainer(Scope(tmp_path / "run", log_every_n_steps=5), max_epochs=1).fit(Tells(), loaders()[0])
    steps = [line["step"] for line in read_lines(tmp_path / "run" / "metrics" / "steps.jsonl")]
    assert steps == [6, 10, 16, 20]


def test_a_regression_records_its_error_and_counts_its_samples(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with run(tmp_path / "run", dataset=TRAIN, optimizer=optimizer) as watched:
        for _ in watched.epochs(2):
            for x, y, ids in watched.loader(batch_size=BATCH):
                errors = (net(x)[:, 0] - y).square()
                optimizer.zero_grad()
                errors.mean().backward()
                optimizer.step()
                watched.record(ids, signals={"error": errors, "x": x[:, 0]})
                watched.step()
    assert [row["num_samples"] for row in epoch_rows(RunDir(tmp_path / "run"))] == [NUM_TRAIN, NUM_TRAIN]
    assert rows(tmp_path / "run", "select name, count(*) from custom group by all order by all") == [
        ("error", 2 * NUM_TRAIN),
        ("x", 2 * NUM_TRAIN),
    ]


def test_a_regression_recorded_as_a_classifier_fails_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no class index, such as .*regression"), run(tmp_path / "run") as watched:
        watched.record([0, 1], torch.zeros(2, 1), torch.tensor([0.25, 3.0]))
    assert (ends(tmp_path / "run")["status"], "no class index" in ends(tmp_path / "run")["message"]) == ("failed", True)


# ---- text ----------------------------------------------------------------------------------------


class Reviews(Dataset[dict[str, Any]]):
    """Five words each, and whether the first is one of the better half."""

    def __init__(self) -> None:
        self.words = torch.randint(0, 20, (40, 5), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Any]:
        words = self.words[index]
        return {"input_ids": words, "attention_mask": torch.ones(5), "label": int(words[0] > 9)}


def test_text_in_batches_that_are_dicts(tmp_path: Path) -> None:
    class Classifier(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.EmbeddingBag(20, 8), nn.Linear(8, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            logits = self.head(self.embedding(batch["input_ids"]))
            return {"loss": F.cross_entropy(logits, batch["label"]), "logits": logits}

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return self.training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.1)

    folder = tmp_path / "run"
    train, val = (DataLoader(with_ids(Reviews()), BATCH) for _ in range(2))
    trainer(Scope(folder), max_epochs=2).fit(Classifier(), train, val)
    assert visits(folder)[1, "train", "train"] == visits(folder)[1, "val", "eval"] == (40, 40)
    manifest = Manifest.read(folder / "manifest.parquet")
    assert manifest.labels[:40].tolist() == (Reviews().words[:, 0] > 9).long().tolist(), "told by the first rows"


# ---- callbacks of others -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
def test_the_epoch_in_which_averaged_weights_train_nothing_is_no_epoch_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithNorm(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    folder = tmp_path / "run"
    scoped_fit(folder, StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1), module=WithNorm(), max_epochs=3)
    assert visits(folder) == {
        **{(epoch, "train", "train"): (NUM_TRAIN, NUM_TRAIN) for epoch in range(3)},
        **{(epoch, "val", "eval"): (NUM_VAL, NUM_VAL) for epoch in range(4)},
    }
    assert [row["num_samples"] for row in epoch_rows(RunDir(folder))] == [NUM_TRAIN, NUM_TRAIN, NUM_TRAIN, 0]
    assert capsys.readouterr().err.count("this epoch trains nothing (StochasticWeightAveraging)") == 1
    assert ends(folder)["status"] == "finished"
    assert main(["suspects", str(folder)]) == 0


def test_the_folder_is_known_after_the_run(tmp_path: Path) -> None:
    scope = Scope(tmp_path / "run")
    assert scope.run_dir is None
    trainer(scope, max_epochs=1).fit(Module(), DataLoader(with_ids(TRAIN), BATCH), DataLoader(with_ids(VAL), BATCH))
    assert scope.run_dir == tmp_path / "run"
