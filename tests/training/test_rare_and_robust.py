"""Runs with one logit, adjusted logits and losses for untrusted labels: resumed, steered, exported, refused."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many_ranks import fit_on
from small_runs import IRIS, At, ask, assert_bit_equal, last, rows, send, small_fit

from litscope.config.flags import parse
from litscope.data.datamodule import ClassificationData
from litscope.errors import ConfigError, Interrupted
from litscope.evaluation.predict import predict
from litscope.live import steering
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit

CANCER: dict[str, Any] = {**IRIS, "dataset": "breast_cancer", "batch_size": 64, "epochs": 4}
"""512 training samples, 8 steps in an epoch."""


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        {"robust": "elr", "elr_lambda": 1.0, "ema_decay": 0.9},
        {"robust": "small_loss", "small_loss_share": 0.3},
        {"logit_adjustment": 1.0},
    ],
    ids=lambda flags: next(iter(flags.values())),
)
def test_a_relabelled_run_resumes_bit_for_bit(tmp_path: Path, flags: dict[str, Any]) -> None:
    """Stopped within an epoch, and labels of one class changed in the one before."""

    def scenario(run: Path) -> list[At]:
        return [At(10, ask(run, "relabel", sample_id=list(range(0, 500, 4)), label="benign"))]

    one, cut = tmp_path / "one", tmp_path / "cut"
    small_fit(one, CANCER, callbacks=scenario(one), **flags)
    with pytest.raises(Interrupted):
        small_fit(cut, CANCER, callbacks=[*scenario(cut), At(21, send(signal.SIGTERM))], **flags)
    fit(resume=str(cut))
    parts = ["state_dict", "optimizer_states", "litscope"]
    parts += ["litscope_objective"] if "small_loss" not in flags.values() else []
    assert_bit_equal(last(cut), last(one), *parts)
    assert rows(cut).equals(rows(one))


@pytest.mark.slow
@pytest.mark.flag("robust")
def test_small_losses_count_and_large_ones_do_not(tmp_path: Path) -> None:
    """What the last epoch minimised, recomputed from the ledger's losses of the epoch before, by class."""
    small_fit(tmp_path / "run", CANCER, robust="small_loss", small_loss_share=0.25, dropout_rate=0.0)
    table = rows(tmp_path / "run", split="train", phase="train")
    epochs, ids = np.array(table["epoch"].to_pylist()), table["sample_id"].to_numpy()
    loss, label = table["loss"].to_numpy(), table["label"].to_numpy()
    weight = np.ones(569)
    before = epochs == 2
    for of_class in (ids[before & (label == c)] for c in range(2)):
        known = dict(zip(ids[before], loss[before], strict=True))
        ordered = sorted(of_class, key=lambda i: -known[i])
        dropped = ordered[: int(0.25 * len(ordered))]
        weight[of_class] = len(ordered) / (len(ordered) - len(dropped))
        weight[dropped] = 0
    assert (weight == 0).sum() == pytest.approx(0.25 * 512, abs=2)
    now = epochs == 3
    line = read_lines(RunDir(tmp_path / "run").epoch_metrics)[3]
    assert line["train/loss"] == pytest.approx((weight[ids[now]] * loss[now]).mean(), rel=1e-3)
    assert now.sum() == 512, "what does not count is recorded all the same"


@pytest.mark.slow
@pytest.mark.flag("task")
def test_one_logit_is_two_to_everyone_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = small_fit(run, CANCER, task="binary")
    module = Classifier.load_from_checkpoint(RunDir(run).last_checkpoint, map_location="cpu")
    assert module.head is not None
    assert module.head.out_features == 1
    x = torch.randn(5, 30)
    logits = module.eval()(x)
    z = module.net((x - module.mean) / module.std)
    torch.testing.assert_close(logits, torch.cat([torch.zeros(5, 1), z], 1))
    torch.testing.assert_close(torch.softmax(logits, 1)[:, 1], torch.sigmoid(z[:, 0]))
    table = predict(run, split="val").table
    at = {key: i for i, key in enumerate(table["key"].to_pylist())}
    data = ClassificationData("breast_cancer").open()
    keys = [data.manifest.table["key"][int(i)].as_py() for i in data.val_ids]
    features = torch.from_numpy(np.stack([data.source.reader.read(int(i)) for i in data.val_ids]))
    best = Classifier.load_from_checkpoint(next(RunDir(run).checkpoints.glob("epoch*.ckpt")), map_location="cpu")
    expected = torch.sigmoid(best.eval()(features)[:, 1]).detach().numpy()
    found = table["p_malignant"].to_numpy()[[at[key] for key in keys]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert result.metrics["val/accuracy"] > 0.9
    again = small_fit(tmp_path / "again", CANCER, task="binary", weights=str(run), epochs=1)
    assert again.metrics["val/accuracy"] > 0.9, "its head came along"


@pytest.mark.slow
def test_one_logit_of_several_members(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", CANCER, task="binary", num_members=2, epochs=2)
    assert result.metrics["val/accuracy"] > 0.85


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--focal-gamma 1", "--loss is cross_entropy. Give --loss focal"),
        ("--gce-q 0.5", "--robust is none. Give --robust gce"),
        ("--robust gce --elr-beta 0.5", "--robust is gce. Give --robust elr"),
        ("--robust elr --small-loss-share 0.2", "Give --robust small_loss"),
        ("--robust gce --loss focal", "a loss of its own"),
        ("--robust elr --mixup 0.2", "blended"),
        ("--robust small_loss --prune infobatch --epochs 9", "--prune infobatch weights samples"),
        ("--robust small_loss --small-loss-share 0.6", "above 0, to 0.5"),
        ("--robust elr --num-members 3 --arch mlp", "one network"),
        ("--logit-adjustment 1 --class-weights balanced", "a second time"),
        ("--logit-adjustment 1 --sampler balanced", "one of the two"),
        ("--task binary --num-classes 3", "two classes apart, and --num-classes is 3"),
        ("--gce-q 0", "above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(["digits", *words.split()])


@pytest.mark.slow
def test_one_logit_is_for_two_classes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--task binary: it tells two classes apart, and the data have 3"):
        small_fit(tmp_path / "run", IRIS, task="binary")


@pytest.mark.slow
def test_two_ranks_keep_the_targets_of_all_samples(tmp_path: Path) -> None:
    """Each sees half of an epoch; what is saved knows of every training sample, and the run goes on alone."""
    run = fit_on(2, tmp_path / "run", **{**CANCER, "epochs": 2}, robust="elr")
    kept = last(run.path)["litscope_objective"]
    train = set(rows(run.path, split="train", phase="train")["sample_id"].to_pylist())
    assert set(torch.nonzero(kept["elr_labels"] >= 0).flatten().tolist()) == train
    torch.testing.assert_close(kept["elr_targets"].sum(1)[sorted(train)], torch.full((len(train),), 1 - 0.7**2))
    small_fit(run.path, CANCER, resume=str(run.path), epochs=3, num_nodes=1, robust="elr")
    assert not torch.equal(last(run.path)["litscope_objective"]["elr_targets"], kept["elr_targets"])
