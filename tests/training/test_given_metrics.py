"""`fit(metrics=...)`: metrics that a caller brings are measured, choose the best epoch, and survive a resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
from ranked_kappa import TwiceKappa
from sklearn.metrics import cohen_kappa_score
from small_runs import IRIS, At, rows, send, small_fit
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassMatthewsCorrCoef,
)

import litscope
from litscope.cli import main
from litscope.errors import ConfigError, Interrupted
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir
from litscope.training.fit import fit

KAPPA = {"kappa": MulticlassCohenKappa(3)}
BOTH = {**KAPPA, "ece": MulticlassCalibrationError(3)}
SPLIT: dict[str, Any] = {**IRIS, "test_split": 0.2, "val_split": 0.3}


def kappas(run: Path, split: str) -> list[float]:
    """Cohen's kappa of each epoch, from the predictions in the ledger."""
    seen = rows(run, split=split)
    epochs, label, pred = (seen[name].to_numpy() for name in ("epoch", "label", "pred"))
    return [cohen_kappa_score(label[epochs == e], pred[epochs == e]) for e in np.unique(epochs)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that two metrics were brought to; the first one chooses the best epoch."""
    folder = tmp_path_factory.mktemp("given") / "run"
    return small_fit(folder, SPLIT, lr=1e-2, metrics=BOTH, monitor="val/kappa").run


def test_they_are_measured_in_each_epoch_and_on_the_test_set(run: RunDir) -> None:
    lines = epoch_rows(run)
    assert [line["val/kappa"] for line in lines] == pytest.approx(kappas(run.path, "val"), abs=1e-6)
    summary = json.loads(run.summary.read_text())
    assert summary["metrics"]["best"]["test/kappa"] == pytest.approx(kappas(run.path, "test")[-1], abs=1e-6)
    assert all(0 <= line["val/ece"] <= 1 for line in lines)
    assert not [name for name in lines[0] if name.startswith("train/") and name.endswith(("kappa", "ece"))]
    assert not KAPPA["kappa"].update_called, "the caller's own object is left alone"


def test_the_monitored_one_chooses_by_its_own_direction(run: RunDir) -> None:
    summary = json.loads(run.summary.read_text())
    best = max(line["val/kappa"] for line in epoch_rows(run))
    assert (summary["monitor"], summary["mode"]) == ("val/kappa", "max")
    assert summary["metrics"]["best"]["val/kappa"] == best
    assert f"val_kappa{best:.4f}.ckpt" in summary["checkpoints"]["best"]
    assert "metrics:\n  kappa: max\n  ece: min\n" in run.recipe.read_text()


def test_less_may_be_better(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", SPLIT, metrics=BOTH, monitor="val/ece", early_stopping=True)
    values = [line["val/ece"] for line in epoch_rows(result.run)]
    assert result.summary["mode"] == "min"
    assert result.metrics["val/ece"] == min(values)


def test_evaluate_measures_them_where_they_are_brought(run: RunDir) -> None:
    found = litscope.evaluate(run.path, "test", metrics=KAPPA)["metrics"]
    assert found["test/kappa"] == json.loads(run.summary.read_text())["metrics"]["best"]["test/kappa"]
    assert "test/kappa" not in litscope.evaluate(run.path, "test")["metrics"]


def test_a_run_goes_on_with_them_as_if_nothing_had_happened(run: RunDir, tmp_path: Path) -> None:
    there = tmp_path / "run"
    stop = [At(4, send(signal.SIGINT), "validation")]  # the validation is cut, and starts anew
    with pytest.raises(Interrupted):
        small_fit(there, SPLIT, lr=1e-2, metrics=BOTH, monitor="val/kappa", callbacks=stop, epochs=3)
    again = fit(resume=there, metrics=BOTH)
    whole = json.loads(run.summary.read_text())
    assert [line["val/kappa"] for line in epoch_rows(again.run)] == [line["val/kappa"] for line in epoch_rows(run)]
    assert again.summary["metrics"]["best"] == whole["metrics"]["best"]


@pytest.mark.slow
def test_without_them_it_says_how_they_are_brought(
    run: RunDir, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["fit", "--resume", str(run.path), "--epochs", "4"]) == 2
    assert "bring it again, litscope.fit(..., metrics={'kappa': ..., 'ece': ...})" in capsys.readouterr().err.lower()
    small_fit(tmp_path / "run", SPLIT, metrics=KAPPA, epochs=1)
    assert main(["fit", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    assert "no longer measured: kappa, which a call in Python brought" in capsys.readouterr().err
    first, second = epoch_rows(RunDir(tmp_path / "run"))
    assert "val/kappa" in first
    assert "val/kappa" not in second
    assert "kappa" not in RunDir(tmp_path / "run").recipe.read_text()


@pytest.mark.parametrize(
    ("metrics", "flags", "words"),
    [
        ([KAPPA["kappa"]], {}, "metrics=list: it is a dictionary"),
        (MetricCollection(KAPPA), {}, r"metrics=dict\(collection.items\(\)\)"),
        ({"kappa": MulticlassCohenKappa}, {}, r"MulticlassCohenKappa is no torchmetrics.Metric. Make an object"),
        ({"a/b": KAPPA["kappa"]}, {}, "the name 'a/b'"),
        ({"accuracy": KAPPA["kappa"]}, {}, "'accuracy' is measured anyway, as val/accuracy"),
        ({"kappa": MulticlassCohenKappa(4)}, {"monitor": "val/kapa"}, "Did you mean 'val/kappa'"),
        ({"f": BinaryF1Score()}, {}, r"metrics\['f'\]: BinaryF1Score does not take probabilities \(B, 3\)"),
        ({"each": MulticlassAccuracy(3, average="none")}, {}, r"of shape \(3,\), and a metric is one number"),
        ({"twice": TwiceKappa()}, {"monitor": "val/twice"}, "higher_is_better is None.*mode='min' or mode='max'"),
        (KAPPA, {"monitor": "val/kappa", "mode": "min"}, "val/kappa is best at its maximum"),
        (KAPPA, {"monitor": "train/kappa"}, "--monitor train/kappa: it is one of"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(
    metrics: Any, flags: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        small_fit(tmp_path / "run", **{**IRIS, **flags}, metrics=metrics)
    assert not (tmp_path / "run").exists()


def test_a_mode_decides_where_the_metric_does_not(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", SPLIT, metrics={"twice": TwiceKappa()}, monitor="val/twice", mode="max")
    assert result.metrics["val/twice"] == max(line["val/twice"] for line in epoch_rows(result.run))
    assert result.metrics["val/twice"] == pytest.approx(2 * max(kappas(result.run.path, "val")), abs=1e-6)


def test_members_are_measured_by_their_mean_probability(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", SPLIT, metrics=KAPPA, num_members=2)
    assert [line["val/kappa"] for line in epoch_rows(result.run)] == pytest.approx(kappas(result.run.path, "val"))


def test_those_that_train_many_times_refuse_them() -> None:
    with pytest.raises(ConfigError, match=r"metrics= is for litscope\.fit and Classifier"):
        litscope.cv("iris", metrics=KAPPA)  # type: ignore[call-arg]


@pytest.mark.slow
def test_several_processes_measure_all_rows_once(tmp_path: Path) -> None:
    """Kappa is no mean over ranks, and the rows do not divide evenly."""
    metrics = {**KAPPA, "twice": TwiceKappa(), "ece": MulticlassCalibrationError(3)}
    two = small_fit(tmp_path / "two", SPLIT, metrics=metrics, devices=2)
    lines = epoch_rows(two.run)
    assert [line["val/kappa"] for line in lines] == pytest.approx(kappas(two.run.path, "val"), abs=1e-6)
    assert [line["val/twice"] for line in lines] == pytest.approx([2 * line["val/kappa"] for line in lines])
    test = two.summary["metrics"]["best"]["test/kappa"]
    assert test == pytest.approx(kappas(two.run.path, "test")[-1], abs=1e-6)


def test_a_class_of_the_script_itself_cannot_reach_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here(MulticlassMatthewsCorrCoef):
        pass

    with pytest.raises(ConfigError, match=r"metrics\['mine'\]: other processes of the run cannot have it"):
        small_fit(tmp_path / "run", IRIS, metrics={"mine": Here(3)}, devices=2)
    assert not (tmp_path / "run").exists()


def test_with_a_trainer_of_ones_own(tmp_path: Path) -> None:
    """The plateau schedule follows it too, and `load_from_checkpoint` takes it again."""
    data = litscope.ClassificationData("iris", val_split=0.3)
    model = litscope.Classifier("mlp", metrics=KAPPA, monitor="val/kappa", scheduler_type="plateau")
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, data)
    assert model.schedule is not None
    assert model.schedule.mode == "max"
    measured = float(trainer.callback_metrics["val/kappa"])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = litscope.Classifier.load_from_checkpoint(tmp_path / "a.ckpt", metrics=KAPPA)
    assert list(again.given) == ["kappa"]
    found = trainer.validate(again, data, verbose=False)[0]
    assert found["val/kappa"] == pytest.approx(measured)
    mute = litscope.Classifier("mlp", metrics={"twice": TwiceKappa()}, monitor="val/twice", scheduler_type="plateau")
    with pytest.raises(ConfigError, match="higher_is_better is None"):
        trainer.fit(mute, litscope.ClassificationData("iris"))
