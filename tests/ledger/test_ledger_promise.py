"""Observing changes nothing, and nothing waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, assert_bit_equal, last, rows, small_fit
from torch.utils._python_dispatch import TorchDispatchMode

from litscope.config.flags import recipe_from_keywords
from litscope.curation.recipe_source import make_source
from litscope.ledger.signal_buffer import compute_signals
from litscope.rundir import RunDir
from litscope.training import build
from litscope.training.choosing.choices import resolve
from litscope.training.choosing.facts import look
from litscope.training.quiet import quiet_lightning

LONG = {"epochs": 4, "limit_train_batches": None, "limit_val_batches": 2, "batch_size": 32}
"""4 epochs of 51 steps: 204."""


@pytest.fixture(scope="module")
def with_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ledger") / "run"
    small_fit(run, **LONG)
    return run


@pytest.mark.flag("ledger")
def test_weights_after_200_steps_are_the_same_with_the_ledger_off(with_ledger: Path, tmp_path: Path) -> None:
    result = small_fit(tmp_path / "off", ledger=False, **LONG)
    assert result.summary["global_step"] >= 200
    assert not list(RunDir(tmp_path / "off").signals.glob("*.parquet"))
    assert len(rows(with_ledger, split="train")) > 0
    assert_bit_equal(last(with_ledger), last(tmp_path / "off"), "state_dict", "optimizer_states")


@pytest.mark.slow
def test_weights_are_those_of_plain_lightning(with_ledger: Path) -> None:
    """The same batches through a plain Trainer with the public classes, and none of our callbacks."""
    recipe = recipe_from_keywords(**{**DIGITS, **LONG})
    source = make_source(recipe)
    recipe, _ = resolve(recipe, look(source))
    data = build.make_data(recipe, source).open()
    torch.manual_seed(recipe.training.seed)
    classifier = build.make_classifier(recipe, data)
    with quiet_lightning():
        trainer = L.Trainer(
            max_epochs=4,
            limit_val_batches=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, datamodule=data)
    assert trainer.global_step >= 200
    assert_bit_equal({"state_dict": classifier.state_dict()}, last(with_ledger), "state_dict")


class NoReading(TorchDispatchMode):
    """Raises where a tensor's value goes to Python: on a GPU the step would wait there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} reads a tensor back to the host inside a training step")
        return func(*args, **(kwargs or {}))


class GuardedSteps(L.Callback):
    """No value is read back between the start of the first batch and the last one's end.

    It stands before our recorder, so `on_train_batch_start` of the next batch ends the guarded stretch.
    """

    def __init__(self) -> None:
        self.num_guarded = 0
        self._mode: NoReading | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None
        if trainer.fit_loop.batch_idx < trainer.num_training_batches - 2:  # the epoch's end may read
            self._mode = NoReading()
            self._mode.__enter__()
            self.num_guarded += 1


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardedSteps]:
    """A guard that also catches `Tensor.numpy` and `Tensor.tolist`, which do not go through the dispatcher."""
    guard = GuardedSteps()

    def refuse(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            import threading

            assert guard._mode is None or threading.current_thread() is not threading.main_thread(), name
            return original(self, *args, **kwargs)

        return method

    for name in ("numpy", "tolist", "item", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name))
    yield guard
    if guard._mode is not None:
        guard._mode.__exit__(None, None, None)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "flags", [{}, {"accumulate_grad_batches": 2}, {"mixup": 0.2}], ids=["plain", "accumulated", "mixed"]
)
def test_no_tensor_is_read_back_in_a_step(flags: dict[str, Any], no_numpy: GuardedSteps, tmp_path: Path) -> None:
    small_fit(tmp_path / "run", epochs=1, limit_train_batches=12, log_every_n_steps=1000, callbacks=[no_numpy], **flags)
    assert no_numpy.num_guarded >= 10
    assert len(rows(tmp_path / "run", split="train"))


def test_the_guard_sees_a_reading(no_numpy: GuardedSteps, tmp_path: Path) -> None:
    """The guard itself can fail: with a log line at each step, the loss is read in the step."""
    with pytest.raises(AssertionError):
        small_fit(tmp_path / "run", epochs=1, log_every_n_steps=1, callbacks=[no_numpy])


class Remember(L.Callback):
    """Keeps what each training step returned."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, _trainer: L.Trainer, _module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self.steps.append({name: outputs[name].clone() for name in ("logits", "label", "sample_id")})


def test_rows_are_the_steps_own(tmp_path: Path) -> None:
    """Each row of the ledger holds what the training step computed for that sample at that step."""
    seen = Remember()
    small_fit(tmp_path / "run", epochs=1, callbacks=[seen])
    table = rows(tmp_path / "run", split="train", phase="train")
    assert len(table) == sum(len(step["label"]) for step in seen.steps)
    by_visit = {(r["step"], r["sample_id"]): r for r in table.to_pylist()}
    for number, step in enumerate(seen.steps):
        signals = compute_signals(step["logits"], step["label"])
        for i, sample_id in enumerate(step["sample_id"].tolist()):
            row = by_visit[number, sample_id]
            assert row["label"] == int(step["label"][i])
            assert row["pred"] == int(step["logits"][i].argmax())
            np.testing.assert_allclose(row["loss"], float(signals["loss"][i]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_with_mixup_training_rows_come_from_a_clean_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = small_fit(tmp_path / "run", mixup=0.4, limit_train_batches=None, batch_size=256)
    assert "clean pass" in capsys.readouterr().err
    assert len(rows(tmp_path / "run", split="train", phase="train")) == 0
    clean = rows(tmp_path / "run", split="train", phase="eval")
    assert len(clean) == 2 * result.summary["num_samples"]["train"]
    assert sorted(set(clean["epoch"].to_pylist())) == [0, 1]


@pytest.mark.slow
def test_the_clean_pass_changes_nothing(tmp_path: Path) -> None:
    small_fit(tmp_path / "on", mixup=0.4)
    small_fit(tmp_path / "off", mixup=0.4, ledger=False)
    assert_bit_equal(last(tmp_path / "on"), last(tmp_path / "off"), "state_dict", "optimizer_states")
