"""Runs that take a second: digits or iris, a small network, a few steps. And what their tests look at."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pyarrow as pa
import torch

from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir
from litscope.training.fit import RunResult, fit

DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "arch": "convnet",
    "dropout_rate": 0.3,
    "batch_size": 32,
    "limit_train_batches": 6,
    "limit_val_batches": 3,
    "epochs": 2,
    "warmup_epochs": 0.5,
    "lr": 3e-3,
    "accelerator": "cpu",
    "logger": ["none"],
    "progress": False,
}
"""12 steps with augmentation, dropout and warm-up, and two validations."""

IRIS: dict[str, Any] = {
    "dataset": "iris",
    "arch": "mlp",
    "batch_size": 16,
    "epochs": 3,
    "accelerator": "cpu",
    "logger": ["none"],
    "progress": False,
}


def small_fit(run_dir: Path, settings: dict[str, Any] = DIGITS, **flags: Any) -> RunResult:
    """`fit` with the settings of a small run."""
    return fit(**{**settings, "run_dir": str(run_dir), **flags})


class At(L.Callback):
    """Calls `action` once: after the batch in which training reaches `step`, or in the validation that follows it."""

    def __init__(self, step: int, action: Callable[[], None], during: str = "train") -> None:
        self.step, self.action, self.during = step, action, during
        self.is_done = False

    def _maybe(self, trainer: L.Trainer, during: str) -> None:
        if not self.is_done and during == self.during and trainer.global_step >= self.step:
            self.is_done = True
            self.action()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._maybe(trainer, "train")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._maybe(trainer, "validation")

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._maybe(trainer, "test")


def send(number: signal.Signals) -> Callable[[], None]:
    """Sends a signal to this process."""
    return lambda: os.kill(os.getpid(), number)


@contextmanager
def when_there(path: Path, number: signal.Signals) -> Iterator[None]:
    """Sends a signal to this process as soon as a file is there."""
    is_over = threading.Event()

    def wait() -> None:
        while not path.exists():
            if is_over.is_set():
                return
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def last(run_dir: Path) -> dict[str, Any]:
    """The run's last checkpoint."""
    return torch.load(RunDir(run_dir).last_checkpoint, weights_only=True)


def tensors(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested dictionaries and lists, by their path."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: tensor for key, inner in items for name, tensor in tensors(inner, f"{path}/{key}").items()}


def assert_bit_equal(one: dict[str, Any], two: dict[str, Any], *parts: str) -> None:
    """The given parts of two checkpoints hold the same tensors, bit for bit."""
    for part in parts or ("state_dict", "optimizer_states"):
        a, b = tensors(one[part]), tensors(two[part])
        assert a, part
        assert a.keys() == b.keys(), part
        different = [name for name in a if not torch.equal(a[name], b[name])]
        assert not different, f"{part}: {different[:5]}"


def rows(run_dir: Path, **where: Any) -> pa.Table:
    """The ledger's valid rows, sorted by visit."""
    table = LedgerReader(RunDir(run_dir)).table(**where)
    for i, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table.schema.field(name).type):  # Arrow cannot sort these
            table = table.set_column(i, name, table[name].cast(pa.string()))
    return table.sort_by([(name, "ascending") for name in ("split", "phase", "step", "sample_id")])


def ask(run: Path, what: str, **arguments: Any) -> Callable[[], None]:
    """Submits an action when called, as a command would."""
    return lambda: submit(RunDir(run), request(what, **arguments))
