"""litscope.watch's wrapped parts: an interface that others know, and what comes back is the real thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from places import ROOT, SUPPORT
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import Accuracy
from watched import BATCH, NUM_TRAIN, NUM_VAL, TRAIN, VAL, Asks, answers, network, rows, trainer, visits, weights

import litscope.watch as wl
from litscope.errors import ConfigError
from litscope.rundir import read_lines
from litscope.watch import guard_testing_context, guard_training_context

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """A process watches one run at a time."""
    yield
    wl.keep_serving()


def loaders(**options: Any) -> tuple[Any, Any]:
    train = wl.watch_or_edit(TRAIN, flag="data", loader_name="train_loader", batch_size=BATCH, shuffle=True, **options)
    return train, wl.watch_or_edit(VAL, flag="data", loader_name="val_loader", batch_size=BATCH, is_training=False)


def criterion(**options: Any) -> Any:
    return wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="CE", log=True, **options)


def plain_loop(folder: Path, asks: Asks | None = None, epochs: int = 3) -> nn.Module:
    wl.watch_or_edit({"run_dir": str(folder)}, flag="hyperparameters")
    net = wl.watch_or_edit(network(), flag="model", device="cpu")
    optimizer = wl.watch_or_edit(torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), flag="optimizer")
    (train, val), loss_of = loaders(), criterion()
    metric = wl.watch_or_edit(Accuracy(task="multiclass", num_classes=3), flag="metric", signal_name="ACC", log=True)
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    torch.manual_seed(3)
    step = 0
    for _ in range(epochs):
        for x, ids, y in train:
            if asks is not None:
                asks.at(step)
            with guard_training_context:
                optimizer.zero_grad()
                logits = net(x)
                preds = logits.argmax(1)
                loss = loss_of(logits, y, batch_ids=ids, preds=preds).mean()
                metric(preds, y)
                loss.backward()
                optimizer.step()
                step += 1
                wl.save_signals(preds_raw=logits, targets=y, batch_ids=ids, signals={"own": x[:, 0]}, preds=preds)
        with guard_testing_context, torch.no_grad():
            for x, ids, y in val:
                loss_of(net(x), y, batch_ids=ids)
    wl.keep_serving()
    return net


def test_a_plain_loop_of_wrapped_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    plain_loop(run)
    expected = {(e, "train", "train"): (NUM_TRAIN, NUM_TRAIN) for e in range(3)}
    assert visits(run) == expected | {(e, "val", "eval"): (NUM_VAL, NUM_VAL) for e in range(3)}
    found = rows(run, "select name, phase, count(*) from custom group by all order by all")
    assert found == [("CE", "eval", 3 * NUM_VAL), ("CE", "train", 3 * NUM_TRAIN), ("own", "train", 3 * NUM_TRAIN)]
    lines = read_lines(run / "metrics" / "epochs.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert all(0 < line["train/ACC"] <= 1 for line in lines)
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert f"the run is recorded in {run}" in capsys.readouterr().err


def test_wrapped_parts_train_to_the_same_weights(tmp_path: Path) -> None:
    watched = plain_loop(tmp_path / "run")
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    loader, val = DataLoader(TRAIN, BATCH, shuffle=True), DataLoader(VAL, BATCH)
    torch.manual_seed(3)
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        for x, _ in val:
            net(x)  # in train mode, as above: it draws for dropout
    assert torch.equal(weights(watched), weights(net))


def test_actions_reach_wrapped_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    wishes = {
        2: ("set", {"settings": {"lr": 0.01}}),
        3: ("reweight", {"sample_id": [0], "weight": 0.0}),
        4: ("discard", {"sample_id": list(range(50))}),
        6: ("checkpoint", {}),
        22: ("stop", {}),
    }
    plain_loop(run, Asks(run, monkeypatch, wishes), epochs=4)
    assert [status for _, status, _ in answers(run)] == ["applied"] * 5
    assert visits(run)[1, "train", "train"] == (50, 50)
    assert read_lines(run / "metrics" / "epochs.jsonl")[0]["lr"] == 0.01
    assert set(torch.load(run / "checkpoints" / "step00000007.ckpt")) == {"model", "optimizer"}
    steps = rows(run, "select max(step) from signals where phase = 'train'")[0][0]
    assert 22 <= steps <= 24


class Wrapped(L.LightningModule):
    def __init__(self, loss_of: Any) -> None:
        super().__init__()
        self.net, self.loss_of = network(), loss_of

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, ids, y = batch
        with guard_training_context:
            return self.loss_of(self.net(x), y, batch_ids=ids).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, ids, y = batch
        with guard_testing_context:
            self.loss_of(self.net(x), y, batch_ids=ids)

    def configure_optimizers(self) -> Any:
        return wl.watch_or_edit(torch.optim.SGD(self.parameters(), 0.1), flag="optimizer")


def test_wrapped_parts_in_lightning(tmp_path: Path) -> None:
    wl.watch_or_edit({"root_log_dir": str(tmp_path)}, flag="hyperparameters")
    train, val = loaders()
    module = wl.watch_or_edit(Wrapped(criterion()), flag="model")
    trainer().fit(module, train, val)
    wl.keep_serving()
    expected = {(e, "train", "train"): (NUM_TRAIN, NUM_TRAIN) for e in range(3)}
    expected |= {(e, "val", "eval"): (NUM_VAL, NUM_VAL) for e in range(3)}  # no sanity check
    assert visits(tmp_path / "watch-1") == expected
    assert len(read_lines(tmp_path / "watch-1" / "metrics" / "epochs.jsonl")) == 3


def test_what_comes_back_is_the_real_thing() -> None:
    net = network()
    assert wl.watch_or_edit(net, flag="model") is net
    optimizer = torch.optim.Adam(net.parameters())
    assert wl.watch_or_edit(optimizer, flag="optimizer") is optimizer
    assert isinstance(loaders()[0], DataLoader)
    metric = Accuracy(task="multiclass", num_classes=3)
    assert wl.watch_or_edit(metric, flag="metric") is metric


def test_guards_change_nothing_else() -> None:
    net = network().eval()
    with guard_training_context:
        assert not net.training
    with pytest.raises(IndexError), guard_training_context:
        [][0]
    net.train()
    with guard_testing_context(), guard_training_context:
        assert net.training
        net(torch.zeros(2, 4)).sum().backward()
    assert net[0].weight.grad is not None  # type: ignore[union-attr]


def test_a_metric_is_heard_however_it_is_used(tmp_path: Path) -> None:
    run = tmp_path / "run"
    wl.watch_or_edit({"run_dir": str(run)}, flag="hp")
    kinds = {
        name: Accuracy(task="multiclass", num_classes=3) for name in ("called", "updated", "computed", "silent", "left")
    }
    for name, metric in kinds.items():
        wl.watch_or_edit(metric, name, flag="metric", log=name != "silent")
    target = torch.tensor([0, 1])
    with guard_training_context:
        wl.save_signals({"two": torch.ones(2, 3)}, [0, 1], torch.zeros(2, 3), target)
        for preds in ([0, 1], [0, 0]):
            assert kinds["called"](torch.tensor(preds), target) == (1 if preds == [0, 1] else 0.5)
            kinds["updated"].update(torch.tensor(preds), target)
            kinds["computed"].update(torch.tensor(preds), target)
        assert kinds["computed"].compute() == 0.75
    with guard_testing_context:
        kinds["left"].update(target, target)
    assert kinds["left"].compute() == 1  # outside, as a script does after its test
    wl.keep_serving()
    line = read_lines(run / "metrics" / "epochs.jsonl")[0]
    assert {name: value for name, value in line.items() if name.startswith("train/")} == {
        "train/called": 0.75,
        "train/updated": 0.75,
        "train/computed": 0.75,
    }
    assert line["val/left"] == 1
    assert not kinds["updated"].update_called
    assert kinds["computed"].update_called
    assert rows(run, "select name, value from custom") == [("two", 1.0), ("two", 1.0)]


def test_unknown_options_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    loaders(compute_hash=False, preload_labels=True)
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "compute_hash, preload_labels" in said


@pytest.mark.parametrize(
    ("obj", "flag", "word"),
    [
        (1, "modle", "Did you mean 'model'"),
        (1, "model", "takes a torch.nn.modules.module.Module, not int"),
        (1, "optimizer", "not int"),
        (DataLoader([1]), "data", "takes the data set, and makes the loader"),  # type: ignore[arg-type]
        (iter([1]), "data", "map-style"),
        (1, "loss", "takes a loss function"),
        ("no.yaml", "hyperparameters", "cannot be read"),
    ],
)
def test_misuse_says_what_is_allowed(obj: Any, flag: str, word: str, in_tmp: Path) -> None:
    with pytest.raises(ConfigError, match=word):
        wl.watch_or_edit(obj, flag=flag)


def test_a_loss_of_the_whole_batch_is_refused(tmp_path: Path) -> None:
    wl.watch_or_edit({"run_dir": str(tmp_path / "run")}, flag="hyperparameters")
    loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(), flag="loss", signal_name="CE")
    with pytest.raises(ConfigError, match="reduction='none'"):
        loss_of(torch.zeros(2, 3), torch.zeros(2).long(), batch_ids=torch.arange(2))
    with pytest.raises(ConfigError, match="needs batch_ids"):
        wl.save_signals(preds_raw=torch.zeros(2, 3), targets=torch.zeros(2).long())


def test_hyperparameters_follow_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h.yaml"
    path.write_text("lr: 0.1\ndata: {batch: 8}\n")
    defaults = {"epochs": 5, "data": {"split": 0.1}}
    found = wl.watch_or_edit(path, flag="hyperparameters", defaults=defaults, poll_interval=0)
    assert found == {"epochs": 5, "lr": 0.1, "data": {"split": 0.1, "batch": 8}}
    for text, lr in (("lr: 0.2\n", 0.2), ("[broken", 0.2), ("- 1\n", 0.2)):
        path.write_text(text)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        found.refresh()
        assert found["lr"] == lr
    assert capsys.readouterr().err.count("stay as they are") == 2


@pytest.mark.slow
def test_a_script_that_breaks_leaves_a_failed_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import litscope.watch as wl, torch\n"
        "wl.watch_or_edit({'run_dir': 'run'}, flag='hyperparameters')\n"
        "wl.save_signals(batch_ids=[0], preds_raw=torch.zeros(1, 2), targets=[1])\n"
        "raise RuntimeError('no memory')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "no memory" in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["message"]) == ("failed", "RuntimeError: no memory")
    assert visits(tmp_path / "run") == {(0, "train", "train"): (1, 1)}


SCRIPT = """
import sys
import torch
import litscope.watch as wl
from litscope.watch import Scope
from test_watch_wrapped import Wrapped, criterion, loaders
from watched import Module, loaders as plain_loaders, trainer

door, run, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
if __name__ == "__main__":
    torch.manual_seed(3)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    settings = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2, "precision": "bf16-mixed"}
    if door == "scope":
        trainer(Scope(run), **settings).fit(Module(), *plain_loaders(**options))
    else:
        wl.watch_or_edit({"run_dir": run}, flag="hyperparameters")
        train, val = loaders(**options)
        trainer(**settings).fit(wl.watch_or_edit(Wrapped(criterion()), flag="model"), train, val)
        wl.keep_serving()
"""


@pytest.mark.slow
@pytest.mark.parametrize("door", ["scope", "wrapped"])
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_see_unique_samples(tmp_path: Path, door: str, workers: int) -> None:
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(SUPPORT), str(ROOT)])}
    run.mkdir()
    discard = {"id": "1", "who": "me", "when": time.time(), "what": "discard", "why": "", "at_step": 5}
    ids = list(range(NUM_VAL, NUM_VAL + 40)) if door == "scope" else list(range(40))
    (run / "actions.jsonl").write_text(json.dumps({**discard, "sample_id": ids}) + "\n")
    command = [sys.executable, "-W", "ignore", str(script), door, str(run), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert visits(run)[0, "train", "train"] == (NUM_TRAIN, NUM_TRAIN)
    assert visits(run)[2, "train", "train"] == (60, 60)
    assert visits(run)[2, "val", "eval"] == (NUM_VAL, NUM_VAL)
    assert {path.name[6:10] for path in (run / "signals").glob("*.parquet")} == {"r000", "r001"}
    assert [line["num_samples"] for line in read_lines(run / "metrics" / "epochs.jsonl")][::2] == [NUM_TRAIN, 60]
