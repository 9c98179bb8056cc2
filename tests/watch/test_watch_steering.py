"""Actions reach a LightningModule that `Scope` watches: its samples, its worker processes, its rates and its loop."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch.nn import functional as F
from watched import (
    NUM_TRAIN,
    NUM_VAL,
    TRAIN,
    Asking,
    Asks,
    Module,
    answers,
    ends,
    loaders,
    rows,
    scoped_fit,
    trainer,
    visits,
    weights,
)

from litscope import RunDir
from litscope.data.manifest import Manifest
from litscope.ledger.journal.actions import request, submit
from litscope.rundir import read_lines
from litscope.watch import Scope, weight_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning"),
]


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [{"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}, {}])
def test_a_discard_reaches_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    gone = list(range(0, NUM_TRAIN, 2))
    first = NUM_VAL  # the sanity check comes first, so validation has the first ids
    asks = Asks(run, monkeypatch, {10: ("discard", {"sample_id": [first + i for i in gone]}),
                                   30: ("restore", {"sample_id": [first]})})  # fmt: skip
    scoped_fit(run, Asking(asks), workers=workers, max_epochs=5)
    assert [status for _, status, _ in answers(run)] == ["applied", "applied"]
    assert visits(run)[2, "train", "train"] == (50, 50)
    assert visits(run)[4, "train", "train"] == (51, 51)
    assert [line["step"] for line in read_lines(run / "metrics" / "epochs.jsonl")] == [10, 20, 30, 40, 50]
    seen = {row[0] for row in rows(run, "select distinct sample_id from signals where epoch = 2 and phase = 'train'")}
    assert not seen & {first + i for i in gone}


def test_a_discard_reaches_persistent_workers_of_a_loader_that_was_looked_into_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = loaders(num_workers=1, persistent_workers=True)
    next(iter(train))
    asks = Asks(tmp_path / "run", monkeypatch, {5: ("discard", {"sample_id": [NUM_VAL + 5]})})
    trainer(Scope(tmp_path / "run"), Asking(asks), max_epochs=2).fit(Module(), train, loaders()[1])
    assert visits(tmp_path / "run")[1, "train", "train"] == (NUM_TRAIN - 1, NUM_TRAIN - 1)


def test_a_discard_counts_from_the_next_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    asks = Asks(run, monkeypatch, {4: ("discard", {"sample_id": list(range(NUM_VAL, NUM_VAL + 60))})})
    scoped_fit(run, Asking(asks), max_epochs=1)
    late = rows(run, f"select count(*) from signals where phase = 'train' and step > 5 and sample_id < {NUM_VAL + 60}")
    assert late == [(0,)]
    steps = rows(run, "select step, count(*) from signals where phase = 'train' group by all order by all")
    assert [step for step, _ in steps] == list(range(10))  # the number of batches stays


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [2, 0])
def test_a_new_label_reaches_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    run = tmp_path / "run"
    ids = list(range(NUM_VAL, NUM_VAL + NUM_TRAIN))
    asks = Asks(run, monkeypatch, {10: ("relabel", {"sample_id": ids, "label": "2"})})
    scoped_fit(run, Asking(asks), workers={"num_workers": num_workers})
    assert rows(run, "select distinct label from signals where epoch = 2 and phase = 'train'") == [(2,)]
    assert Manifest.read(run / "manifest.parquet").labels[ids].tolist() == TRAIN.tensors[1].tolist()


def test_weights_count_where_the_loss_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[float] = []

    def step(module: Any, batch: Any) -> Any:
        x, y, ids = batch
        logits, factor = module.net(x), weight_of(ids)
        weighed.extend(factor[ids == NUM_VAL].tolist())
        loss = (F.cross_entropy(logits, y, reduction="none") * factor).mean()
        return {"loss": loss, "logits": logits, "label": y, "sample_id": ids}

    wish = ("reweight", {"sample_id": [NUM_VAL], "weight": 0.5})
    scoped_fit(tmp_path / "a", Asking(Asks(tmp_path / "a", monkeypatch, {10: wish})), module=Module(step))
    assert weighed == [1.0, 0.5, 0.5] or weighed == [1.0, 1.0, 0.5]
    scoped_fit(tmp_path / "b", Asking(Asks(tmp_path / "b", monkeypatch, {10: wish})))
    assert answers(tmp_path / "b")[0][1] == "refused"
    assert "weight_of(sample_id)" in answers(tmp_path / "b")[0][2]


def test_a_rate_holds_for_the_step_and_the_person_s_schedule_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    wishes = {
        4: ("set", {"settings": {"lr": 0.7}}),
        9: ("resume", {"schedule": True}),
        14: ("set", {"settings": {"lr_scale": 0.1, "weight_decay": 0.5}}),
    }
    module = Module()
    one = trainer(Scope(run), Asking(Asks(run, monkeypatch, wishes)))
    one.fit(module, *loaders())
    assert module.rates[:5] == [0.1] * 5  # noted by a hook that runs before ours
    found = {line["step"]: line["lr"] for line in read_lines(run / "metrics" / "epochs.jsonl")}
    assert found == pytest.approx({10: 0.7, 20: 0.005, 30: 0.0025})
    assert one.optimizers[0].param_groups[0]["lr"] == 0.1 * 0.5**3
    assert one.optimizers[0].param_groups[0]["weight_decay"] == 0.01


def test_a_changed_rate_trains_as_that_rate_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(Module):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1 if self.is_steered else 0.02)

    run = tmp_path / "run"
    steered, plain = Quick(), Quick()
    steered.is_steered, plain.is_steered = True, False  # type: ignore[attr-defined]
    submitted = request("set", settings={"lr": 0.02}, at_step=0)

    class Before(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                pl_module.first = [p.detach().clone() for p in pl_module.parameters()]

    monkeypatch.setattr("litscope.live.steering.POLL_S", 0.0)
    run.mkdir()
    (run / "actions.jsonl").write_text(json.dumps(submitted) + "\n")
    torch.manual_seed(3)
    trainer(Scope(run), Before(), max_epochs=1).fit(steered, *loaders())
    torch.manual_seed(3)
    trainer(max_epochs=1).fit(plain, *loaders(watched=False))
    assert torch.equal(weights(steered), weights(plain))


def test_what_is_the_loop_s_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    wishes = {
        2: ("set", {"settings": {"epochs": 9}}),
        4: ("evaluate", {"split": "val"}),
        6: ("discard", {"sample_id": [999]}),
        8: ("discard", {"sample_id": list(range(NUM_VAL, NUM_VAL + NUM_TRAIN))}),
        9: ("relabel", {"sample_id": [1], "label": "cat"}),
    }
    scoped_fit(run, Asking(Asks(run, monkeypatch, wishes)), max_epochs=2)
    found = answers(run)
    assert {status for _, status, _ in found} == {"refused"}
    reasons = " ".join(reason for _, _, reason in found)
    words = ("belongs to your own loop", "nothing can be evaluated", "sample_id 999", "leave 0 samples", "not a class")
    assert all(word in reasons for word in words)


def test_pause_resume_checkpoint_and_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    asks = Asks(run, monkeypatch, {3: ("pause", {}), 5: ("checkpoint", {}), 14: ("stop", {})})

    def resume() -> None:
        while not any(line.get("status") == "applied" for line in read_lines(run / "actions.jsonl")):
            time.sleep(0.05)
        submit(RunDir(run), request("resume"))

    helper = threading.Thread(target=resume)
    helper.start()
    scoped_fit(run, Asking(asks))
    helper.join()
    assert [status for _, status, _ in answers(run)] == ["applied"] * 4
    assert torch.load(run / "checkpoints" / "step00000006.ckpt", weights_only=False)["global_step"] == 6
    assert ends(run)["global_step"] == 15
    assert len(read_lines(run / "metrics" / "epochs.jsonl")) == 2  # the epoch is ended in order


def test_validation_samples_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    scoped_fit(run, Asking(Asks(run, monkeypatch, {12: ("discard", {"sample_id": [0, 1, 2]})})))
    assert visits(run)[2, "val", "eval"] == (NUM_VAL - 3, NUM_VAL - 3)
    assert [line["num_edits"] for line in read_lines(run / "metrics" / "epochs.jsonl")] == [0, 1, 1]
