"""Several optimizer steps in one call: the same bits as one at a time, whatever is on, and whenever it is resumed."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, IRIS, At, assert_bit_equal, last, rows, send, small_fit, tensors

from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder
from litscope.errors import ConfigError, Interrupted
from litscope.ledger.journal.actions import request, submit
from litscope.ledger.signal_buffer import SignalBuffer
from litscope.live.records import OF_RANKS, epoch_rows
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit
from litscope.training.loop import stride
from litscope.training.loop.stride import Stride
from litscope.types import StepOutput

CLOCKS = ("time", "when", "epoch_s", "samples_per_s", "attempt", *OF_RANKS)


class Calls(L.Callback):
    """The optimizer steps of each call."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._before = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step - self._before)
        self._before = trainer.global_step


def without_clocks(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]


def assert_same(run: Path, plain: Path) -> None:
    """Weights, optimizer, schedule, loop counters, ledger and metrics of two runs are equal, bit for bit."""
    one, two = last(run), last(plain)
    assert_bit_equal(one, two, "state_dict", "optimizer_states")
    for part in ("global_step", "epoch", "lr_schedulers", "loops"):
        assert one[part] == two[part], part
    assert rows(run).equals(rows(plain))
    ours, theirs = without_clocks(epoch_rows(RunDir(run))), without_clocks(epoch_rows(RunDir(plain)))
    assert ours == [pytest.approx(row, nan_ok=True) for row in theirs]
    ours, theirs = (without_clocks(read_lines(RunDir(folder).step_metrics)) for folder in (run, plain))
    assert ours == [pytest.approx(line) for line in theirs]


# ---- equal to the plain path -----------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.flag("steps_per_call")
@pytest.mark.parametrize("most", [2, 5, 50])
def test_a_table_trains_to_the_same_bits(most: int, tmp_path: Path) -> None:
    """Nine steps an epoch, the last of seven samples."""
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, batch_size=16, dropout_rate=0.2)
    calls = Calls()
    flags: dict[str, Any] = {"steps_per_call": most, "batch_size": 16, "dropout_rate": 0.2, "callbacks": [calls]}
    small_fit(tmp_path / "run", IRIS, **flags)
    assert max(calls.steps) == min(most, 8)
    assert sum(calls.steps) == 27
    assert_same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"gradient_clip_val": 0.1, "accumulate_grad_batches": 4, "log_every_n_steps": 3},
        {"accumulate_grad_batches": 2, "ema_decay": 0.9, "scheduler_type": "onecycle", "limit_train_batches": None},
        {"precision": "bf16-mixed", "scheduler_type": "plateau"},
        {"mixup": 0.2, "optimizer": "sgd", "max_steps": 9, "epochs": None},
        {"class_weights": "balanced", "label_smoothing": 0.1, "loss": "focal", "optimizer": "rmsprop"},
        {"optimizer": "lamb", "early_stopping": True, "patience": 1, "monitor": "val/loss", "lr": 1.0, "epochs": 5},
        {"augment": "strong", "overfit_batches": 2, "limit_train_batches": None},
        # The last batches hold more, and are never stacked. Of so large batches a probe would choose the precision.
        {"batch_size": 400, "limit_train_batches": None, "precision": "32", "channels_last": True},
    ],
    ids=lambda flags: "-".join(flags) or "default",
)
def test_images_train_to_the_same_bits(flags: dict[str, Any], tmp_path: Path) -> None:
    """Augmentation, dropout, batch norm, warm-up, two groups of weight decay; and what else there is."""
    small_fit(tmp_path / "plain", steps_per_call=1, **flags)
    small_fit(tmp_path / "run", steps_per_call=4, **flags)
    assert_same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.slow
def test_rows_are_the_same_without_the_ledger(tmp_path: Path) -> None:
    small_fit(tmp_path / "plain", steps_per_call=4)
    small_fit(tmp_path / "run", steps_per_call=4, ledger=False)
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "plain"))


def test_max_steps_ends_a_call(tmp_path: Path) -> None:
    calls = Calls()
    small_fit(tmp_path / "run", steps_per_call=4, max_steps=9, epochs=None, callbacks=[calls])
    assert calls.steps == [1, 4, 1, 3]


def test_a_line_of_the_log_ends_a_call(tmp_path: Path) -> None:
    calls = Calls()
    small_fit(tmp_path / "run", steps_per_call=4, log_every_n_steps=3, epochs=1, callbacks=[calls])
    assert calls.steps == [1, 2, 3]


# ---- resume and actions ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(1, 4), (4, 1), (4, 3)])
@pytest.mark.parametrize("during", ["train", "validation"])
def test_a_checkpoint_of_one_length_goes_on_with_another(first: int, second: int, during: str, tmp_path: Path) -> None:
    small_fit(tmp_path / "plain", steps_per_call=1)
    for step in (2, 6, 8):
        run = tmp_path / f"run{step}"
        with pytest.raises(Interrupted):
            small_fit(run, steps_per_call=first, callbacks=[At(step, send(signal.SIGINT), during)])
        fit(resume=str(run), steps_per_call=second)
        assert_bit_equal(last(run), last(tmp_path / "plain"), "state_dict", "optimizer_states")
        assert rows(run).equals(rows(tmp_path / "plain"))


def test_actions_have_their_turn_between_calls(tmp_path: Path) -> None:
    """A discard shortens the batches to come by one here and there, and reweighted samples weigh less."""
    run, ids = tmp_path / "run", list(range(0, 120, 3))
    ask = At(3, lambda: submit(RunDir(run), request("discard", sample_id=ids)))
    small_fit(run, steps_per_call=4, callbacks=[ask], limit_train_batches=None, epochs=1)
    answer = next(line for line in read_lines(RunDir(run).actions) if "answers" in line)
    assert answer["status"] == "applied"
    step = answer["step"]
    seen = rows(run, split="train")
    late = {i for i, s in zip(seen["sample_id"].to_pylist(), seen["step"].to_pylist(), strict=True) if s >= step}
    assert not late & set(ids)
    assert len(seen) == len(set(seen["sample_id"].to_pylist()))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["discard", "reweight", "set"])
def test_an_action_that_is_due_at_a_step_ends_a_call(what: str, tmp_path: Path) -> None:
    """A run that goes on applies actions at the steps at which it had them, whatever the calls."""
    arguments: dict[str, Any] = {"sample_id": list(range(0, 60))}
    if what == "reweight":
        arguments["weight"] = 0.25
    if what == "set":
        arguments = {"settings": {"lr": 1e-4}}
    whole = tmp_path / "whole"
    with pytest.raises(Interrupted):
        small_fit(whole, steps_per_call=1, callbacks=[At(2, send(signal.SIGINT))])
    submit(RunDir(whole), {**request(what, **arguments), "at_step": 5})  # type: ignore[arg-type]
    many = tmp_path / "many"
    shutil.copytree(whole, many)
    fit(resume=str(whole), steps_per_call=1)
    calls = Calls()
    calls._before = 2
    fit(resume=str(many), steps_per_call=64, callbacks=[calls])
    assert calls.steps[:3] == [1, 2, 1]
    assert_bit_equal(last(many), last(whole), "state_dict", "optimizer_states")
    assert rows(many).equals(rows(whole))


# ---- what it may not do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cache": False, "dataset": "spacewarps"}, "decoded by workers"),
        ({"devices": "2"}, "one process, and this run has 2"),
        ({"precision": "64"}, "not 64-true"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_stands_against_it_is_said(flags: dict[str, Any], message: str, tmp_path: Path, spacewarps: Path) -> None:
    if flags.get("dataset"):
        flags = {**flags, "dataset": str(spacewarps / "samples.csv"), "image_size": 32}
    with pytest.raises(ConfigError, match=rf"--steps-per-call 4: .*{message}.* or give 1"):
        small_fit(tmp_path / "run", steps_per_call=4, **flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [0, "many", 1.5])
def test_values_that_are_none(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps.per.call"):
        small_fit(tmp_path / "run", steps_per_call=value)


def test_auto_leaves_callbacks_their_steps(tmp_path: Path) -> None:
    calls = Calls()
    small_fit(tmp_path / "run", IRIS, callbacks=[calls])
    assert calls.steps == [1] * 27


def test_auto_is_on_where_the_data_lie_in_memory(tmp_path: Path) -> None:
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1)
    small_fit(tmp_path / "run", IRIS)
    assert "stride" in last(tmp_path / "run")["litscope"]
    assert "stride" not in last(tmp_path / "plain")["litscope"]
    assert_same(tmp_path / "run", tmp_path / "plain")


# ---- parts -----------------------------------------------------------------------------------


def started(
    most: int = 64,
    step: int = 100,
    step_s: float = 1e-3,
    due: int | None = None,
    every: tuple[int, ...] = (1000,),
    **trainer: Any,
) -> Stride:
    """A stride of a run that stands at `step`, whose steps take `step_s`."""
    known = {"global_step": step, "accumulate_grad_batches": 1, "max_steps": -1, **trainer}
    module: Any = SimpleNamespace(steps=SimpleNamespace(step_s=step_s), schedule=SimpleNamespace(total_steps=200))
    made = Stride(most, 0.1, may_compile=False)
    fake: Any = SimpleNamespace(**known)
    made.start(fake, module, lambda: due, every, {"decide_at": 50, "is_compiled": False, "fastest_s": step_s})
    return made


def test_a_call_is_short() -> None:
    assert started(step_s=0.0)(0, 500) == 1, "nothing is known yet"
    assert started(step_s=1e-3)(0, 500) == 64
    assert started(step_s=0.02)(0, 500) == 5
    assert started(step_s=3.0)(0, 500) == 1


def test_a_call_ends_where_something_is_due() -> None:
    assert started()(0, 7) == 7, "batches of another size follow"
    assert started(due=103)(0, 500) == 3
    assert started(due=90)(0, 500) == 1, "it is applied after the next step"
    assert started(max_steps=110)(0, 500) == 10
    assert started(step=990, due=None)(0, 500) == 10, "a line of the log"
    assert started(every=(1000, 30))(0, 500) == 20, "a checkpoint"


def test_windows_stay_whole() -> None:
    assert started(accumulate_grad_batches=4)(8, 11) == 8
    assert started(accumulate_grad_batches=4)(8, 3) == 0
    assert started(accumulate_grad_batches=4)(9, 20) == 0


def test_a_loader_stacks_batches_of_one_size() -> None:
    rows_ = np.arange(90, dtype=np.float32).reshape(45, 2)
    order = EpochOrder(np.arange(45), 8, 3)  # five batches of 8 and one of 5
    plain = list(GatherLoader(order, rows_, Overlay(np.arange(45) % 4)))
    loader = GatherLoader(order, rows_, Overlay(np.arange(45) % 4))
    asked = []

    def three_at_most(number: int, run: int) -> int:
        asked.append((number, run))
        return min(run, 3)

    loader.stride = three_at_most
    places, stacks = [], []
    for batch in loader:
        stacks.append(batch)
        places.append((loader.last, loader.epoch, loader.batches_done))
    assert asked == [(0, 5), (3, 2), (5, 1)]
    assert places == [((0, 0), 0, 3), ((0, 3), 0, 5), ((0, 5), 1, 0)]
    assert [tuple(batch["features"].shape) for batch in stacks] == [(3, 8, 2), (2, 8, 2), (1, 5, 2)]
    flat = [tuple(part) for batch in stacks for part in zip(batch["features"], batch["label"], strict=True)]
    for (features, label), batch in zip(flat, plain, strict=True):
        assert torch.equal(features, batch["features"])
        assert torch.equal(label, batch["label"])


@pytest.mark.parametrize("shape", [(5, 16, 10), (3, 2000, 10), (40, 200, 10)], ids=["staged", "direct", "long"])
def test_a_stack_is_recorded_as_its_batches_are(shape: tuple[int, int, int]) -> None:
    num, size, classes = shape
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    label, ids = torch.arange(num * size).view(num, size) % classes, torch.arange(num * size).view(num, size)
    whole: StepOutput = {
        "loss": torch.zeros(num),
        "sample_loss": torch.zeros(num, size),
        "logits": logits,
        "label": label,
        "sample_id": ids,
    }
    one, two = SignalBuffer(), SignalBuffer()
    for i in range(num):
        batch: StepOutput = {**whole, "logits": logits[i], "label": label[i], "sample_id": ids[i]}
        one.add(batch, step=7 + i // 2, epoch=1, split="train", phase="train")
    two.add_stack(whole, step=7, batches_per_step=2, epoch=1, split="train", phase="train")
    a, b = one.drain().rows(), two.drain().rows()
    assert a.segments == b.segments
    assert all(np.array_equal(a.signals[name], b.signals[name]) for name in a.signals)
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("sample_id", "label", "pred"))


# ---- compiled --------------------------------------------------------------------------------


def assert_close(run: Path, plain: Path) -> None:
    """Weights, optimizer and signals are equal to float precision; ids, steps and counters exactly."""
    one, two = last(run), last(plain)
    a, b = (tensors({part: c[part] for part in ("state_dict", "optimizer_states")}) for c in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5, msg=name)
    assert one["loops"] == two["loops"]
    assert one["lr_schedulers"] == two["lr_schedulers"]
    ours, theirs = rows(run), rows(plain)
    for name in ("sample_id", "step", "label", "epoch"):
        assert ours[name].equals(theirs[name])
    np.testing.assert_allclose(ours["loss"].to_numpy(), theirs["loss"].to_numpy(), rtol=1e-3, atol=1e-5)
    ours_, theirs_ = without_clocks(epoch_rows(RunDir(run))), without_clocks(epoch_rows(RunDir(plain)))
    assert ours_ == [pytest.approx(row, rel=1e-3, nan_ok=True) for row in theirs_]


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
@pytest.mark.parametrize(
    "flags",
    [
        {"gradient_clip_val": 0.5, "ema_decay": 0.9, "scheduler_type": "onecycle", "dropout_rate": 0.2},
        {"accumulate_grad_batches": 2, "optimizer": "sgd", "lr": 0.05, "weight_decay": 0.1},
        {"optimizer": "adam", "weight_decay": 0.1, "loss": "focal", "label_smoothing": 0.1},
    ],
    ids=lambda flags: str(flags.get("optimizer", "adamw")),
)
def test_a_compiled_step_is_equal_to_float_precision(
    flags: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, **flags)
    small_fit(tmp_path / "run", IRIS, steps_per_call=16, **flags)
    assert "us a step instead of" in capsys.readouterr().err
    assert last(tmp_path / "run")["litscope"]["stride"]["is_compiled"] is True
    assert_close(tmp_path / "run", tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_a_compiled_run_resumes_to_its_own_bits(tmp_path: Path) -> None:
    small_fit(tmp_path / "whole", IRIS)
    for step in (2, 12):
        run = tmp_path / f"run{step}"
        with pytest.raises(Interrupted):
            small_fit(run, IRIS, steps_per_call=4, callbacks=[At(step, send(signal.SIGINT))])
        fit(resume=str(run))
        assert_bit_equal(last(run), last(tmp_path / "whole"), "state_dict", "optimizer_states")
        assert rows(run).equals(rows(tmp_path / "whole"))


def test_a_short_run_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stride, "DECIDE_AFTER", 3)
    small_fit(tmp_path / "run", IRIS)
    assert last(tmp_path / "run")["litscope"]["stride"]["is_compiled"] is False


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_a_compiler_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("g++: no space left")

    monkeypatch.setattr(stride, "CompiledStep", fail)
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1)
    small_fit(tmp_path / "run", IRIS)
    assert "g++: no space left" in capsys.readouterr().err
    assert_same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"arch": "convnet"}, "batch norm"),
        ({"arch": "mlp", "optimizer": "rmsprop"}, "RMSprop"),
        ({"arch": "mlp", "precision": "bf16-mixed"}, "--precision 32"),
        ({"arch": "mlp", "accumulate_grad_batches": 9}, "more than 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("compiles")
def test_what_cannot_be_compiled_is_trained_as_it_is(
    flags: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = []
    asked = stride.why_not_compiled

    def ask(module: Classifier, optimizer: torch.optim.Optimizer) -> str | None:
        reasons.append(asked(module, optimizer))
        return reasons[-1]

    monkeypatch.setattr(stride, "why_not_compiled", ask)
    small_fit(tmp_path / "plain", steps_per_call=1, **{**DIGITS, "limit_train_batches": None, **flags})
    small_fit(tmp_path / "run", steps_per_call=4, **{**DIGITS, "limit_train_batches": None, **flags})
    assert reason in str(reasons[0])
    assert_same(tmp_path / "run", tmp_path / "plain")
