"""litscope.watch.Scope: one callback, and every sample of somebody else's LightningModule is on record."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import CombinedLoader
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
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
    ends,
    loaders,
    numbers,
    rows,
    scoped_fit,
    trainer,
    visits,
    weights,
)

from litscope.cli import main
from litscope.curation.run_list import run_facts
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, RunError
from litscope.ledger.reader import LedgerReader
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir, read_lines
from litscope.watch import Scope, record, weight_of, with_ids

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning"),
]


# ---- rows ----------------------------------------------------------------------------------------


def test_every_visit_is_recorded_once_and_the_folder_is_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    scoped_fit(run)
    expected = {(e, "train", "train"): (NUM_TRAIN, NUM_TRAIN) for e in range(3)}
    expected |= {(e, "val", "eval"): (NUM_VAL, NUM_VAL) for e in range(3)}  # and no sanity check
    assert visits(run) == expected
    manifest = Manifest.read(run / "manifest.parquet")
    assert len(manifest) == NUM_TRAIN + NUM_VAL
    assert manifest.labels[manifest.ids("train")].tolist() == TRAIN.tensors[1].tolist()
    assert manifest.keys[manifest.ids("val")][:2].tolist() == ["val/00000", "val/00001"]
    assert manifest.classes == ("0", "1", "2")
    lines = read_lines(run / "metrics" / "epochs.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert [line["lr"] for line in lines] == [0.1, 0.05, 0.025]
    assert lines[-1]["num_samples"] == NUM_TRAIN
    assert lines[-1]["train_loss"] > 0
    assert (ends(run)["status"], ends(run)["epochs"], ends(run)["global_step"]) == ("finished", 3, 30)
    assert (run / "scores" / "scores.parquet").exists()
    assert (run_facts(RunDir(run)).arch, run_facts(RunDir(run)).data) == ("Module", "TensorDataset")


def test_the_logits_recorded_are_the_step_s_own(tmp_path: Path) -> None:
    losses: list[tuple[int, float]] = []

    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        logits = module.net(x)
        each = F.cross_entropy(logits, y, reduction="none")
        if module.training:
            losses.extend(zip(ids.tolist(), each.tolist(), strict=True))
        return {"loss": each.mean(), "logits": logits, "sample_loss": each}  # label and id: as the batch has them

    scoped_fit(tmp_path / "run", module=Module(step), max_epochs=1)
    found = dict(rows(tmp_path / "run", "select sample_id, loss from signals where phase = 'train'"))
    own = rows(tmp_path / "run", "select sample_id, value from custom where name = 'sample_loss' and phase = 'train'")
    assert found == pytest.approx(dict(losses), abs=1e-6)
    assert dict(own) == pytest.approx(dict(losses), abs=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("num_workers", [0, 2])
def test_watching_changes_no_weight(tmp_path: Path, num_workers: int) -> None:
    options = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    watched = scoped_fit(tmp_path / "run", workers=options)
    alone = Module()
    torch.manual_seed(3)
    trainer().fit(alone, *loaders(watched=False, **options))
    assert torch.equal(weights(watched), weights(alone))


def test_record_inside_a_step_and_several_validation_loaders(tmp_path: Path) -> None:
    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        logits = module.net(x)
        record(sample_id=ids, logits=logits, label=y, signals={"confidence": logits.softmax(1).amax(1)})
        record(ids, logits, y)  # said twice, recorded once
        return F.cross_entropy(logits, y)

    run = tmp_path / "run"
    train, val = loaders()
    other = DataLoader(with_ids(TRAIN), BATCH)
    trainer(Scope(run), max_epochs=1).fit(Module(step), train, [val, other])
    assert visits(run) == {
        (0, "train", "train"): (NUM_TRAIN, NUM_TRAIN),
        (0, "val", "eval"): (NUM_VAL, NUM_VAL),
        (0, "train", "eval"): (NUM_TRAIN, NUM_TRAIN),  # the same data, though wrapped once more
    }
    found = rows(run, "select phase, count(*), min(value) > 0.33 from custom where name = 'confidence' group by all")
    assert sorted(found) == [("eval", NUM_VAL + NUM_TRAIN, True), ("train", NUM_TRAIN, True)]


def test_accumulation_and_bfloat16(tmp_path: Path) -> None:
    run = tmp_path / "run"
    scoped_fit(run, accumulate_grad_batches=4, precision="bf16-mixed", max_epochs=2)
    assert visits(run)[1, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    found = rows(run, "select step, count(*) from signals where phase = 'train' group by all order by all")
    assert found == [(0, 40), (1, 40), (2, 20), (3, 40), (4, 40), (5, 20)]


def test_a_subset_of_a_wrapped_data_set_keeps_its_ids(tmp_path: Path) -> None:
    train, val = random_split(with_ids(TRAIN), [80, 20], torch.Generator().manual_seed(0))
    run = tmp_path / "run"
    trainer(Scope(run), max_epochs=1).fit(Module(), DataLoader(train, BATCH), DataLoader(val, BATCH))
    manifest = Manifest.read(run / "manifest.parquet")
    assert len(manifest) == NUM_TRAIN
    assert manifest.ids("val").tolist() == sorted(val.indices)
    assert visits(run) == {(0, "train", "train"): (80, 80), (0, "val", "eval"): (20, 20)}


def test_a_test_after_the_fit_belongs_to_the_run(tmp_path: Path) -> None:
    scope = Scope(tmp_path / "run")
    one, module = trainer(scope, max_epochs=1), Module()
    one.fit(module, *loaders())
    one.test(module, DataLoader(with_ids(numbers(20, 2)), BATCH), verbose=False)
    assert visits(tmp_path / "run")[0, "test", "eval"] == (20, 20)
    assert len(Manifest.read(tmp_path / "run" / "manifest.parquet").ids("test")) == 20
    assert ends(tmp_path / "run")["epochs"] == 1


def test_ids_of_a_person_s_own_make_a_manifest_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    data = torch.utils.data.TensorDataset(*TRAIN.tensors, torch.arange(NUM_TRAIN))
    asks = Asks(run, monkeypatch, {3: ("discard", {"sample_id": [1]}), 13: ("discard", {"sample_id": [1]})})
    one = trainer(Scope(run, class_names=["a", "b", "c"]), Asking(asks), max_epochs=2)
    one.fit(Module(), DataLoader(data, BATCH), DataLoader(data, BATCH))
    manifest = Manifest.read(run / "manifest.parquet")
    assert manifest.labels.tolist() == TRAIN.tensors[1].tolist()
    assert manifest.classes == ("a", "b", "c")
    first, second = answers(run)
    assert first[1] == second[1] == "refused"
    assert "with_ids" in second[2]


def test_a_binary_module_with_one_logit(tmp_path: Path) -> None:
    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        z = module.net(x)[:, 0]
        return {"loss": F.binary_cross_entropy_with_logits(z, (y == 0).float()), "logits": z, "label": (y == 0).long(),
                "sample_id": ids}  # fmt: skip

    scoped_fit(tmp_path / "run", module=Module(step), max_epochs=1)
    wrong = "select count(*) from signals where abs(loss + ln(p_label)) > 1e-5 or pred not in (0, 1)"
    assert rows(tmp_path / "run", wrong) == [(0,)]


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_step_that_tells_nothing_ends_the_run_with_advice(tmp_path: Path) -> None:
    module = Module(lambda m, batch: F.cross_entropy(m.net(batch[0]), batch[1]))
    with pytest.raises(ConfigError, match=r"training_step returned its loss alone.*litscope\.watch\.record"):
        scoped_fit(tmp_path / "a", module=module)
    assert ends(tmp_path / "a")["status"] == "failed"
    with pytest.raises(ConfigError, match=r"no sample_id.*with_ids"):
        trainer(Scope(tmp_path / "b")).fit(Module(), *loaders(watched=False))


def test_one_scope_records_one_training(tmp_path: Path) -> None:
    scope = Scope(tmp_path / "run")
    trainer(scope, max_epochs=1).fit(Module(), *loaders())
    with pytest.raises(ConfigError, match="make one for each"):
        trainer(scope, max_epochs=1).fit(Module(), *loaders())


def test_a_second_fit_of_the_same_trainer_goes_on(tmp_path: Path) -> None:
    one, module = trainer(Scope(tmp_path / "run"), max_epochs=1), Module()
    one.fit(module, *loaders())
    one.fit_loop.max_epochs = 2
    one.fit(module, *loaders())
    assert [line["step"] for line in read_lines(tmp_path / "run" / "metrics" / "epochs.jsonl")] == [10, 20]
    assert visits(tmp_path / "run")[1, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)


def test_record_without_a_run() -> None:
    with pytest.raises(ConfigError, match="No run is being watched"):
        record(sample_id=[0], logits=torch.zeros(1, 2), label=[0])


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("no memory"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_what_was_recorded_stays(tmp_path: Path, error: BaseException, status: str) -> None:
    class Breaks(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 13:
                raise error

    with pytest.raises((RuntimeError, SystemExit, KeyboardInterrupt)):
        scoped_fit(tmp_path / "run", Breaks())
    assert visits(tmp_path / "run")[1, "train", "train"] == (30, 30)
    assert ends(tmp_path / "run")["status"] == status
    assert not [t for t in threading.enumerate() if t.name.startswith("litscope")]


def test_a_run_is_not_written_over_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = trainer(Scope(run), max_epochs=2)
    first.fit(Module(), *loaders())
    first.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(RunError, match="already holds a run"):
        scoped_fit(run)
    trainer(Scope(run)).fit(Module(), *loaders(), ckpt_path=str(tmp_path / "x.ckpt"), weights_only=False)
    assert {key: n for key, (n, _) in visits(run).items() if key[1] == "train"} == {
        (e, "train", "train"): NUM_TRAIN for e in range(3)
    }
    assert [line["start_step"] for line in read_lines(run / "attempts.jsonl")] == [0, 20]
    assert len(Manifest.read(run / "manifest.parquet")) == NUM_TRAIN + NUM_VAL


def test_commands_that_need_the_module_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    scoped_fit(run, max_epochs=1)
    for line in (
        ["fit", "--resume", str(run)],
        ["evaluate", str(run)],
        ["replay", str(run)],
        ["predict", str(run), "x"],
    ):
        assert main(line) == 2
        error = capsys.readouterr().err
        assert "Its model and data are those of its own script" in error
    for line in (["worst", str(run)], ["suspects", str(run)], ["sample", str(run), "3"], ["confusions", str(run)]):
        assert main(line) == 0
    assert main(["discard", str(run), "--id", "3"]) == 0
    assert "its own script, from a checkpoint" in capsys.readouterr().err
    assert main(["stop", str(run)]) == 2
    assert "its own script, from a checkpoint, goes on with it" in capsys.readouterr().err


# ---- two class trees -----------------------------------------------------------------------------


def test_pytorch_lightning_s_trainer_takes_it_too(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")

    class Theirs(other.LightningModule):  # type: ignore[misc, name-defined]
        shown = Module.shown
        training_step, validation_step = Module.training_step, Module.validation_step
        configure_optimizers = Module.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            own = Module()
            self.net, self.step, self.rates = own.net, None, own.rates

    scope = Scope(tmp_path / "run")
    assert isinstance(scope, other.Callback)
    assert isinstance(scope, L.Callback)
    trainer(scope, tree=other).fit(Theirs(), *loaders())
    assert visits(tmp_path / "run")[2, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    assert visits(tmp_path / "run")[2, "val", "eval"] == (NUM_VAL, NUM_VAL)
    assert isinstance(pickle.loads(pickle.dumps(Scope("x"))), Scope)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_fit_that_goes_on_from_the_end_of_a_validation_leaves_that_epoch_s_line(tmp_path: Path) -> None:
    """Lightning ends the epoch once more there, and knows nothing of it any more."""

    def train(max_epochs: int, last: Path | None) -> list[dict[str, Any]]:
        saves = ModelCheckpoint(tmp_path / "own", save_last=True, save_on_train_epoch_end=False)
        fit = trainer(Scope(tmp_path / "run"), saves, max_epochs=max_epochs, enable_checkpointing=True)
        fit.fit(Module(), *loaders(), ckpt_path=last, weights_only=False)
        return epoch_rows(RunDir(tmp_path / "run"))

    before = train(2, None)
    after = train(3, tmp_path / "own" / "last.ckpt")
    assert after[:2] == before
    assert [(row["epoch"], row["num_samples"]) for row in after] == [(0, 100), (1, 100), (2, 100)]


def test_rows_are_on_the_disk_before_a_checkpoint_is(tmp_path: Path) -> None:
    found: list[set[int]] = []

    class Looks(ModelCheckpoint):
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._save_checkpoint(trainer, filepath)
            found.append(set(LedgerReader(RunDir(tmp_path / "run")).table(["step"])["step"].to_pylist()))

    saves = Looks(tmp_path / "own", every_n_train_steps=4, save_top_k=-1)
    trainer(Scope(tmp_path / "run"), saves, max_epochs=1, enable_checkpointing=True).fit(Module(), *loaders())
    assert found == [set(range(4)), set(range(8))]


def test_a_trainer_without_a_scope_inside_a_watched_one_is_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        logits = module.net(x)
        record(ids, logits, y)
        return (F.cross_entropy(logits, y, reduction="none") * weight_of(ids)).mean()

    class Beside(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            quiet().validate(Module(step), DataLoader(with_ids(numbers(20, 5)), BATCH), verbose=False)

    quiet, run = trainer, tmp_path / "run"
    scoped_fit(run, Beside(), module=Module(step), max_epochs=2)
    assert visits(run) == {
        (epoch, split, phase): (count, count)
        for epoch in range(2)
        for split, phase, count in (("train", "train", NUM_TRAIN), ("val", "eval", NUM_VAL))
    }
    told = "a Trainer without Scope runs inside a watched one: what its steps record belongs to no run"
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.slow
def test_a_search_for_the_batch_size_leaves_the_splits_as_they_are(tmp_path: Path) -> None:
    class Data(L.LightningDataModule):
        batch_size = 5

        def train_dataloader(self) -> Any:
            return DataLoader(with_ids(TRAIN), self.batch_size)

        def val_dataloader(self) -> Any:
            return DataLoader(with_ids(VAL), BATCH)

    one = trainer(Scope(tmp_path / "run"), max_epochs=1, default_root_dir=tmp_path)
    module, data = Module(), Data()
    Tuner(one).scale_batch_size(module, datamodule=data, max_trials=2, steps_per_trial=1)
    one.fit(module, datamodule=data)
    manifest = Manifest.read(tmp_path / "run" / "manifest.parquet")
    assert (len(manifest.ids("train")), len(manifest.ids("val"))) == (NUM_TRAIN, NUM_VAL) == (100, len(manifest) - 100)
    assert set(visits(tmp_path / "run")) == {(0, "train", "train"), (0, "val", "eval")}


def test_validation_loaders_side_by_side(tmp_path: Path) -> None:
    def step(module: Any, batch: Any) -> Any:
        parts = [batch] if module.training else [part for part in batch if part is not None]
        x, y, ids = (torch.cat(each) for each in zip(*parts, strict=True))
        logits = module.net(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "label": y, "sample_id": ids}

    train, val = loaders()
    other = DataLoader(with_ids(numbers(50, 3)), BATCH)
    both = CombinedLoader([val, other], "max_size")
    trainer(Scope(tmp_path / "run"), max_epochs=1).fit(Module(step), train, both)
    assert visits(tmp_path / "run")[0, "val", "eval"] == (NUM_VAL + 50, NUM_VAL + 50)
    assert rows(tmp_path / "run", "select count(*) from manifest where split = 'val'") == [(NUM_VAL + 50,)]


def test_batches_that_no_data_loader_makes(tmp_path: Path) -> None:
    class Ready:
        """Batches that are there already, with ids of a person's own."""

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            x, y = numbers(2 * BATCH, 4).tensors
            yield from (
                (x[at], y[at], torch.arange(1000, 1000 + 2 * BATCH)[at]) for at in (slice(BATCH), slice(BATCH, None))
            )

    trainer(Scope(tmp_path / "run"), max_epochs=1).fit(Module(), loaders()[0], Ready())
    assert visits(tmp_path / "run")[0, "val", "eval"] == (2 * BATCH, 2 * BATCH)
    assert rows(tmp_path / "run", "select min(key) from manifest where split = 'val'") == [("val/01000",)]


def test_two_scopes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="This Trainer has two Scopes"):
        trainer(Scope(tmp_path / "a"), Scope(tmp_path / "b")).fit(Module(), *loaders())
