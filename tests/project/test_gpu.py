"""On a CUDA device: the same training as on a CPU, steps as a CUDA graph, and no wait of the host within a step."""

from __future__ import annotations

import signal
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, IRIS, At, assert_bit_equal, last, rows, send, small_fit, tensors

from litscope.data import resident
from litscope.errors import Interrupted
from litscope.models.learning.graphed import GraphedStep
from litscope.training.fit import fit
from litscope.training.loop import stride
from litscope.training.loop.checkpoints import random_state, set_random_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GPU: dict[str, Any] = {"accelerator": "gpu", "devices": "1"}


@pytest.fixture
def _graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run captures its step after three steps, as if it paid."""
    monkeypatch.setattr(stride, "DECIDE_AFTER", 3)
    monkeypatch.setattr(stride, "COMPILE_S", 0.0)
    monkeypatch.setattr(stride, "LEAST_GAIN", 0.0)


def assert_close(run: Path, plain: Path, rtol: float) -> None:
    """Weights, optimizer and signals are equal to precision; ids, steps and counters exactly."""
    one, two = last(run), last(plain)
    a, b = (tensors({part: c[part] for part in ("state_dict", "optimizer_states")}) for c in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=rtol / 10, msg=name)
    assert one["loops"] == two["loops"]
    ours, theirs = rows(run), rows(plain)
    for name in ("sample_id", "step", "label", "epoch"):
        assert ours[name].equals(theirs[name])
    np.testing.assert_allclose(ours["loss"].to_numpy(), theirs["loss"].to_numpy(), rtol=10 * rtol, atol=rtol)


def test_the_gpu_s_random_state_is_put_back() -> None:
    state = random_state()
    first = torch.rand(4, device="cuda")
    assert not torch.equal(torch.rand(4, device="cuda"), first)
    set_random_state(state)
    assert torch.equal(torch.rand(4, device="cuda"), first)
    set_random_state({**state, "cuda": None})  # of a run on a CPU
    assert not torch.equal(torch.rand(4, device="cuda"), first)


def test_a_run_on_a_gpu_is_that_of_a_cpu(tmp_path: Path) -> None:
    """The same order, augmentation and ids; numbers to float precision. Dropout draws otherwise, so there is none."""
    flags: dict[str, Any] = {"dropout_rate": 0.0, "precision": "32", "deterministic": True, "steps_per_call": 1}
    small_fit(tmp_path / "cpu", DIGITS, **flags)
    small_fit(tmp_path / "gpu", DIGITS, **flags, **GPU)
    ours, theirs = rows(tmp_path / "gpu"), rows(tmp_path / "cpu")
    for name in ("sample_id", "step", "label"):
        assert ours[name].equals(theirs[name])
    np.testing.assert_allclose(ours["loss"].to_numpy(), theirs["loss"].to_numpy(), rtol=0.02, atol=0.01)


def test_several_steps_a_call_are_the_same_bits(tmp_path: Path) -> None:
    flags = {**GPU, "deterministic": True, "precision": "32"}
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, **flags)
    small_fit(tmp_path / "run", IRIS, steps_per_call=4, **flags)
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "plain"), "state_dict", "optimizer_states")
    assert rows(tmp_path / "run").equals(rows(tmp_path / "plain"))


def test_several_steps_a_call_are_the_same_images(tmp_path: Path) -> None:
    """Not bit for bit: cuDNN chooses its convolution by the strides of the batch, and a stack's are others."""
    flags = {**GPU, "deterministic": True, "precision": "32", "dropout_rate": 0.0}
    small_fit(tmp_path / "plain", steps_per_call=1, **flags)
    small_fit(tmp_path / "run", steps_per_call=4, **flags)
    ours, theirs = rows(tmp_path / "run"), rows(tmp_path / "plain")
    assert ours["sample_id"].equals(theirs["sample_id"])
    np.testing.assert_allclose(ours["loss"].to_numpy(), theirs["loss"].to_numpy(), rtol=0.02, atol=0.01)


def test_pixels_on_the_device_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, Any] = {**GPU, "deterministic": True, "precision": "32", "dropout_rate": 0.0}
    seen: list[torch.device] = []

    class Looks(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
            seen.append(trainer.datamodule._train_loader._data.device)  # type: ignore[attr-defined]

    small_fit(tmp_path / "device", DIGITS, callbacks=[Looks()], **flags)
    monkeypatch.setattr(resident, "LARGEST_SHARE", 0.0)
    small_fit(tmp_path / "host", DIGITS, callbacks=[Looks()], **flags)
    assert [device.type for device in seen] == ["cuda", "cpu"]
    assert rows(tmp_path / "device").equals(rows(tmp_path / "host"))
    assert_bit_equal(last(tmp_path / "device"), last(tmp_path / "host"), "state_dict", "optimizer_states")


@pytest.mark.usefixtures("_graphs")
@pytest.mark.parametrize(
    "flags",
    [
        {"gradient_clip_val": 0.5, "ema_decay": 0.9, "scheduler_type": "onecycle"},
        {"accumulate_grad_batches": 2, "optimizer": "sgd", "lr": 0.05, "weight_decay": 0.1},
        {"optimizer": "adam", "precision": "bf16"},
        {"num_members": 3, "num_folds": 3},
    ],
    ids=["adamw", "sgd", "adam", "folds"],
)
def test_a_graph_is_equal_to_float_precision(flags: dict[str, Any], tmp_path: Path) -> None:
    flags = {"precision": "32", **GPU, **flags}
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, **flags)
    small_fit(tmp_path / "run", IRIS, **flags)
    assert last(tmp_path / "run")["litscope"]["stride"]["is_compiled"] is True
    assert_close(tmp_path / "run", tmp_path / "plain", 1e-4 if flags["precision"] == "32" else 2e-2)


@pytest.mark.usefixtures("_graphs")
def test_a_graph_with_dropout_resumes_to_its_own_bits(tmp_path: Path) -> None:
    flags = {**GPU, "dropout_rate": 0.3, "precision": "32"}
    small_fit(tmp_path / "whole", IRIS, **flags)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        small_fit(run, IRIS, callbacks=[At(12, send(signal.SIGINT))], steps_per_call=4, **flags)
    fit(resume=str(run))
    assert_bit_equal(last(run), last(tmp_path / "whole"), "state_dict", "optimizer_states")
    assert rows(run).equals(rows(tmp_path / "whole"))


@pytest.mark.usefixtures("_graphs")
def test_a_graph_is_captured_anew_where_the_weights_moved(tmp_path: Path) -> None:
    captured: list[Any] = []

    class Moves(L.Callback):
        has_moved = False

        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
            compiled = module.steps.compiled
            if isinstance(compiled, GraphedStep) and compiled._graph is not None:
                captured.append(compiled._graph)
            if trainer.global_step >= 16 and not self.has_moved:
                self.has_moved = True
                for state in trainer.optimizers[0].state.values():
                    state["exp_avg"] = state["exp_avg"].clone()

    small_fit(tmp_path / "run", IRIS, callbacks=[Moves()], steps_per_call=4, precision="32", **GPU)
    small_fit(tmp_path / "plain", IRIS, steps_per_call=1, precision="32", **GPU)
    assert len({id(graph) for graph in captured}) == 2
    assert_close(tmp_path / "run", tmp_path / "plain", 1e-4)


@pytest.mark.parametrize("steps", [1, "auto"])
def test_the_host_waits_for_nothing_within_a_step(steps: Any, tmp_path: Path) -> None:
    """Between the first and the last batches of an epoch without a line of the log."""

    class Strict(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.current_epoch == 1 and batch_idx == 1:
                torch.cuda.set_sync_debug_mode("error")

        def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx >= trainer.num_training_batches - 2:
                torch.cuda.set_sync_debug_mode("default")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its debug mode is a prototype
        try:
            small_fit(
                tmp_path / "run",
                limit_train_batches=20,
                log_every_n_steps=10**6,
                callbacks=[Strict()],
                steps_per_call=steps,
                **GPU,
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_whitenet_learns(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"arch": "whitenet", "image_size": 16, "optimizer": "sgd", "lr": 0.3, "epochs": 3}
    result = small_fit(tmp_path / "run", **flags, limit_train_batches=None, **GPU)
    assert result.metrics["final"]["val/accuracy"] > 0.8
