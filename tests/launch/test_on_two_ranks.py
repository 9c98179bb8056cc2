"""What a recipe may ask for, on two ranks: each works as in one process, or works, or is refused before it starts.

The table of docs/scale.md names these tests by their cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from forked import run_cli
from many_ranks import DEADLINE_S, fit_apart, fit_on, refused_on
from small_bodies import ARCH, save_sides, save_weights
from small_runs import rows
from torchmetrics.classification import MulticlassAveragePrecision

from litscope.ledger.journal.actions import canaries
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir
from litscope.training.hardware import cpp_compiler

pytestmark = pytest.mark.slow

IRIS: dict[str, Any] = {"dataset": "iris", "arch": "mlp", "dropout_rate": 0.0, "lr": 0.01, "epochs": 2}
IRIS |= {"test_split": 0.1}

AS_ONE: dict[str, dict[str, Any]] = {
    "members": {"num_members": 3},
    "folds": {"num_members": 3, "num_folds": 3},
    "ema": {"ema_decay": 0.8},
    "canaries": {"canaries": 0.1, "epochs": 6},
    "pruning": {"prune": "infobatch", "epochs": 4, "scheduler_type": "constant"},
    "early stopping": {"early_stopping": True, "patience": 1, "min_delta": 10.0, "epochs": 9},
    "plateau": {"scheduler_type": "plateau", "monitor": "val/loss"},
    "clipping": {"gradient_clip_val": 0.01, "accumulate_grad_batches": 2},
    "limits": {"limit_train_batches": 0.5, "max_steps": 7},
}
"""Every number is that of one process."""


def numbers(line: dict[str, Any]) -> dict[str, Any]:
    """What of a line is neither a time nor a name."""
    return {
        name: value for name, value in line.items() if "/" in name or name in ("step", "epoch", "num_samples", "lr")
    }


def test_a_scaled_rate_is_what_both_train_with(tmp_path: Path) -> None:
    """A rate of one device, doubled for two, trains as the doubled one on a device with twice the batch."""
    two = fit_on(2, tmp_path / "two", **{**IRIS, "lr": 0.005}, scale_lr="linear", batch_size=8)
    one = fit_on(1, tmp_path / "one", **IRIS, batch_size=16)
    for line, of_one in zip(epoch_rows(two), epoch_rows(one), strict=True):
        assert numbers(line) == pytest.approx(numbers(of_one), abs=1e-4)
    summary = read_summary(two)
    assert (summary["global_batch_size"], summary["peak_lr"]) == (16, pytest.approx(0.01))


@pytest.mark.parametrize("case", AS_ONE)
def test_works_as_in_one_process(case: str, tmp_path: Path) -> None:
    flags = {**IRIS, **AS_ONE[case]}
    two, one = fit_on(2, tmp_path / "two", **flags, batch_size=8), fit_on(1, tmp_path / "one", **flags, batch_size=16)
    found, expected = epoch_rows(two), epoch_rows(one)
    assert len(found) == len(expected) > 0
    for line, of_one in zip(found, expected, strict=True):
        assert numbers(line) == pytest.approx(numbers(of_one), abs=1e-4)
    assert read_summary(two)["metrics"]["best"] == pytest.approx(read_summary(one)["metrics"]["best"], abs=1e-4)
    assert canaries(two) == canaries(one)
    happened = {
        "members": "val/loss_member_2" in found[0],
        "folds": "val/loss" not in found[0],  # each member leaves a fold out, and none validates
        "canaries": bool(canaries(two)),
        "pruning": found[1]["num_samples"] < found[0]["num_samples"],
        "early stopping": len(found) < 9,
        "limits": found[-1]["step"] == 7,
    }
    assert happened.get(case, True)


def test_an_ensemble_of_whole_networks(tmp_path: Path) -> None:
    """Trained, fused by what it learned of the validation samples of both, and judged, as on one; each of its networks
    has no batch norm, whose statistics would be those of a rank's own batch.
    """
    flags: dict[str, Any] = {"dataset": "digits", "archs": ["mlp", "test_vit"], "member_image_size": [8, 16]}
    flags |= {"image_size": 8, "ensemble_strategy": "stacked", "epochs": 1, "limit_train_batches": 6, "lr": 0.003}
    flags |= {"augment": "none", "gradient_clip_val": 0.5, "dropout_rate": 0.0, "test_split": 0.1}
    flags |= {"limit_val_batches": 3, "limit_test_batches": 0.5}
    two, one = fit_on(2, tmp_path / "two", **flags, batch_size=16), fit_on(1, tmp_path / "one", **flags, batch_size=32)
    (line,), (of_one,) = epoch_rows(two), epoch_rows(one)
    assert numbers(line) == pytest.approx(numbers(of_one), abs=1e-4)
    found, expected = (read_summary(run)["ensemble"] for run in (two, one))
    assert found["num_samples"] == expected["num_samples"] == 3 * 2 * 16
    assert found["fusion"]["weights"] == pytest.approx(expected["fusion"]["weights"], abs=1e-3)
    assert found["nll"] == pytest.approx(expected["nll"], abs=1e-4)
    assert read_summary(two)["metrics"]["best"] == pytest.approx(read_summary(one)["metrics"]["best"], abs=1e-4)


class EndsOnOne(L.Callback):
    """A caller's own, which ends the run and has only the first rank do so, as many do."""

    def __init__(self, when: str) -> None:
        self.when = when

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop |= trainer.is_global_zero and self.when == "step" and trainer.global_step == 3

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop |= trainer.is_global_zero and self.when == "epoch"


@pytest.mark.parametrize("when", ["step", "epoch"])
def test_a_callback_that_ends_the_run_on_one_rank_ends_it_on_all(when: str, tmp_path: Path) -> None:
    flags = {**IRIS, "epochs": 3, "callbacks": [EndsOnOne(when)]}
    two, one = fit_on(2, tmp_path / "two", **flags, batch_size=8), fit_on(1, tmp_path / "one", **flags, batch_size=16)
    assert read_summary(two)["global_step"] == read_summary(one)["global_step"] < 10
    assert len(rows(two.path)) == len(rows(one.path))


@pytest.mark.parametrize("what", ["a row more", "another order"])
def test_machines_with_different_copies_of_the_data_are_refused(what: str, tmp_path: Path) -> None:
    rows_of = [f"{i},{i % 3},{'abc'[i % 3]},{'val' if i % 5 == 0 else 'train'}" for i in range(40)]
    other = [*rows_of, rows_of[1]] if what == "a row more" else rows_of[::-1]
    for name, lines in (("one", rows_of), ("two", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "points.csv").write_text("\n".join(["x,y,label,split", *lines]) + "\n")
    flags = [{"dataset": str(tmp_path / name / "points.csv"), "epochs": 1} for name in ("one", "two")]
    codes, said = fit_apart(tmp_path / "run", flags)
    assert codes == [2, 2], said
    assert "have not read the same data: rank 1 on" in said
    assert ("has 41 samples, rank 0 on" in said) == (what == "a row more")


def test_a_metric_that_keeps_rows_where_a_rank_has_none(tmp_path: Path) -> None:
    flags = {**IRIS, "val_split": 0.008, "metrics": {"mine": MulticlassAveragePrecision(3, average="weighted")}}
    two, one = fit_on(2, tmp_path / "two", **flags, batch_size=8), fit_on(1, tmp_path / "one", **flags, batch_size=16)
    assert read_summary(two)["num_samples"]["val"] == 1
    for line, of_one in zip(epoch_rows(two), epoch_rows(one), strict=True):
        assert line["val/mine"] == pytest.approx(of_one["val/mine"], abs=1e-5)
    assert epoch_rows(two)[-1]["val/mine"] == pytest.approx(1, abs=1e-5)  # of one row, whatever is predicted


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_images_are_blended_with_those_of_the_same_rank(how: str, tmp_path: Path) -> None:
    flags = {"dataset": "digits", "arch": "convnet", "limit_train_batches": 3, "limit_val_batches": 1, "epochs": 1}
    run = fit_on(2, tmp_path / "run", **flags, batch_size=16, **{how: 0.4})
    assert set(rows(run.path, split="train")["phase"].to_pylist()) == {"eval"}
    ids = rows(run.path, split="train")["sample_id"].to_pylist()
    assert len(ids) == len(set(ids)) == read_summary(run)["num_samples"]["train"]


@pytest.mark.parametrize("what", ["head", "lp-ft"])
def test_a_network_that_starts_from_weights(what: str, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"arch": ARCH, "weights": str(save_weights(tmp_path / "w.pt")), "finetune": what}
    flags |= {"dataset": str(save_sides(tmp_path / "sides")), "image_size": 64, "val_split": 0.25}
    flags |= {"epochs": 3, "batch_size": 4}
    run = fit_on(2, tmp_path / "run", **flags)
    ids = rows(run.path, split="train", min_epoch=2)["sample_id"].to_pylist()
    assert len(ids) == len(set(ids)) == read_summary(run)["num_samples"]["train"]
    assert epoch_rows(run)[-1]["val/accuracy"] >= 0.5


@pytest.mark.skipif(cpp_compiler() is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network(tmp_path: Path) -> None:
    two = fit_on(2, tmp_path / "two", **IRIS, batch_size=8, compile_model=True)
    one = fit_on(1, tmp_path / "one", **IRIS, batch_size=16)
    for line, of_one in zip(epoch_rows(two), epoch_rows(one), strict=True):
        assert numbers(line) == pytest.approx(numbers(of_one), abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"steps_per_call": 8}, "--steps-per-call 8: it works in one process, and this run has 2")],
    ids=["steps per call"],
)
def test_what_one_process_alone_does_is_refused(flags: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in refused_on(2, tmp_path / "run", **IRIS, batch_size=8, **flags)


ON_TWO = ["iris", "--devices", "2", "--accelerator", "cpu", "--batch-size", "16", "--arch", "mlp"]


def test_a_run_of_two_ranks_is_replayed_and_its_ranking_judged(tmp_path: Path) -> None:
    done = run_cli("fit", *ON_TWO, "--epochs", "5", "--run-dir", "run", cwd=tmp_path, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    replayed = run_cli("replay", "run", "--run-dir", "again", cwd=tmp_path, timeout=DEADLINE_S)
    assert replayed.returncode == 0, replayed.stderr
    assert read_summary(RunDir(tmp_path / "again"))["num_devices"] == 2
    judged = run_cli("suspects", "run", "--validate", "--share", "0.2", "--keep", cwd=tmp_path, timeout=DEADLINE_S)
    assert judged.returncode == 0, judged.stderr


def test_pruning_is_compared_on_two_ranks(tmp_path: Path) -> None:
    words = ["bench", "prune", *ON_TWO, "--epochs", "3", "--seeds", "2"]
    done = run_cli(*words, cwd=tmp_path, timeout=4 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
