"""Lightning's private parts: what each function relies on is looked at in a real Trainer; nobody else touches them."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from litscope import lightning_internals as internals

NUM_BATCHES = 4


class Loader:
    """`num_batches` of two rows; in stacks of `stack` batches, if asked for."""

    def __init__(self, num_batches: int = NUM_BATCHES, stack: int = 0) -> None:
        self.num_batches, self.stack = num_batches, stack

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Tensor]:
        if self.stack:
            yield from (torch.ones(self.stack, 2, 3) for _ in range(self.num_batches // self.stack))
        else:
            yield from (torch.ones(2, 3) for _ in range(self.num_batches))


class Module(L.LightningModule):
    """Fits a line, and notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.batches: list[tuple[int, int]] = []
        self.validated: list[int] = []
        self.steps_begun: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch_idx))
        self.steps_begun.append(internals.steps_begun(self.trainer))
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(self.global_step)
        self.log("loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Data(L.LightningDataModule):
    """Loaders of as many batches as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.num_train, self.num_val = NUM_BATCHES, 1

    def train_dataloader(self) -> Loader:
        return Loader(self.num_train)

    def val_dataloader(self) -> Loader:
        return Loader(self.num_val)


class When(L.Callback):
    """Calls a function with the trainer in one hook."""

    def __init__(self, hook: str, act: Callable[[L.Trainer], None]) -> None:
        setattr(self, hook, lambda trainer, *_: act(trainer))


def make_trainer(*callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    has_files = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    return L.Trainer(**{**defaults, **quiet, "enable_checkpointing": has_files, **arguments}, callbacks=list(callbacks))


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from litscope.training.quiet import quiet_lightning

    monkeypatch.chdir(tmp_path)
    with quiet_lightning():
        yield


def fit(trainer: L.Trainer, **arguments: Any) -> tuple[Module, Data]:
    module, data = Module(), Data()
    trainer.fit(module, datamodule=data, **arguments)
    return module, data


# ---- what a trainer has and does not declare -----------------------------------------------------


def test_datamodule_of() -> None:
    trainer = make_trainer(max_epochs=1)
    assert internals.datamodule_of(trainer) is None
    _, data = fit(trainer)
    assert internals.datamodule_of(trainer) is data


def test_callbacks_of() -> None:
    first, second = L.Callback(), L.Callback()
    assert [c for c in internals.callbacks_of(make_trainer(first, second)) if c in (first, second)] == [first, second]


def test_set_callbacks() -> None:
    seen: list[str] = []
    late = When("on_train_epoch_end", lambda _: seen.append("late"))

    def put_in(trainer: L.Trainer) -> None:
        seen.append("early")
        internals.set_callbacks(trainer, [*internals.callbacks_of(trainer)[:-1], late])

    early, other = When("on_train_start", put_in), When("on_train_epoch_end", lambda _: seen.append("taken out"))
    fit(make_trainer(early, other, max_epochs=1))
    assert seen == ["early", "late"]


def test_is_overfitting() -> None:
    assert internals.is_overfitting(make_trainer(overfit_batches=2))
    assert not internals.is_overfitting(make_trainer())


def test_is_fast_dev_run() -> None:
    assert internals.is_fast_dev_run(make_trainer(fast_dev_run=True))
    assert not internals.is_fast_dev_run(make_trainer())


def test_has_grad_scaler() -> None:
    assert internals.has_grad_scaler(
        make_trainer(plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))])
    )
    assert not internals.has_grad_scaler(make_trainer(precision="bf16-mixed"))
    assert not internals.has_grad_scaler(make_trainer())


def test_trainer_of() -> None:
    trainer, module = make_trainer(max_epochs=1), Module()
    assert internals.trainer_of(nn.Linear(1, 1)) is None
    assert internals.trainer_of(module) is None
    trainer.fit(module, datamodule=Data())
    assert internals.trainer_of(module) is trainer is module.trainer


def test_trainers_kept() -> None:
    first, second = make_trainer(max_epochs=1), make_trainer(max_epochs=1)
    module, data = fit(first)
    with internals.trainers_kept(module, data):
        second.fit(module, datamodule=data)
        assert module.trainer is data.trainer is second
    assert module.trainer is data.trainer is first
    fresh = Module()
    with internals.trainers_kept(fresh, data):
        second.fit(fresh, datamodule=data)
    assert internals.trainer_of(fresh) is None


# ---- stopping and ending -------------------------------------------------------------------------


@pytest.mark.parametrize("is_left_alone", [True, False])
def test_leave_sigterm_alone(is_left_alone: bool) -> None:
    def interrupt(trainer: L.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if is_left_alone:
            internals.leave_sigterm_alone(trainer)

    trainer = make_trainer(When("on_train_start", interrupt), max_epochs=1)
    before = signal.getsignal(signal.SIGTERM)
    try:
        if is_left_alone:
            module, _ = fit(trainer)
            assert len(module.batches) == NUM_BATCHES
        else:
            with pytest.raises(SystemExit) as ended:
                fit(trainer)
            assert type(ended.value).__name__ == "SIGTERMException"
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("is_left_alone", [True, False])
def test_leave_sigterm_alone_of_several_ranks(
    is_left_alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def pretend(trainer: L.Trainer) -> None:
        monkeypatch.setattr(trainer.strategy, "world_size", 2, raising=False)
        loop = trainer.fit_loop.epoch_loop
        assert callable(loop._broadcast_sigterm_tensor)
        loop._broadcast_sigterm_tensor = lambda: asked.append(1)  # type: ignore[method-assign]
        if is_left_alone:
            internals.leave_sigterm_alone(trainer)

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        fit(make_trainer(When("on_train_start", pretend), max_epochs=1))
    finally:
        torch.distributed.destroy_process_group()
    assert len(asked) == (0 if is_left_alone else NUM_BATCHES)


@pytest.mark.parametrize(("max_epochs", "num_epochs"), [(3, 3), (1, 1), (None, 4)])
def test_set_max_epochs(max_epochs: int | None, num_epochs: int) -> None:
    def change(trainer: L.Trainer) -> None:
        if trainer.current_epoch == 0:
            internals.set_max_epochs(trainer, max_epochs)
        trainer.should_stop = trainer.current_epoch == 3

    module, _ = fit(make_trainer(When("on_train_epoch_end", change)))
    assert len(module.batches) == num_epochs * NUM_BATCHES
    assert module.trainer.max_epochs == (max_epochs or -1)


# ---- loaders -------------------------------------------------------------------------------------


def test_ask_for_train_loader() -> None:
    lengths: list[int | float] = []

    def change(trainer: L.Trainer) -> None:
        lengths.append(trainer.num_training_batches)
        if trainer.current_epoch == 1:
            data.num_train = 3
            internals.ask_for_train_loader(trainer)

    trainer, data = make_trainer(When("on_train_epoch_end", change), max_epochs=4), Data()
    trainer.fit(Module(), datamodule=data)
    assert lengths == [4, 4, 3, 3]


def test_ask_for_val_loader() -> None:
    def change(trainer: L.Trainer) -> None:
        data.num_val = 2
        if trainer.current_epoch == 1:
            internals.ask_for_val_loader(trainer)

    trainer, module, data = make_trainer(When("on_train_epoch_end", change), max_epochs=4), Module(), Data()
    trainer.fit(module, datamodule=data)
    assert module.validated == [4, 8, 12, 12, 16, 16]


def test_hear_loaders() -> None:
    heard: list[tuple[object, str]] = []
    trainer = make_trainer(max_epochs=1, num_sanity_val_steps=1)
    internals.hear_loaders(trainer, lambda loader, stage: heard.append((type(loader), stage)))
    internals.hear_loaders(trainer, lambda *_: pytest.fail("the first is told, and no second"))
    module, data = fit(trainer)
    trainer.validate(module, datamodule=data, verbose=False)
    assert heard == [(Loader, "sanity_check"), (Loader, "train"), (Loader, "validate")]


# ---- counting ------------------------------------------------------------------------------------


def test_steps_begun() -> None:
    module, _ = fit(make_trainer())
    assert module.steps_begun == list(range(2 * NUM_BATCHES))


def test_count_call() -> None:
    class Stacked(Module):
        def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
            self.automatic_optimization = False

        def training_step(self, batch: Tensor, batch_idx: int) -> None:
            self.batches.append((self.current_epoch, batch_idx))
            self.steps_begun.append(internals.steps_begun(self.trainer))
            for part in batch:
                optimizer = self.trainer.optimizers[0]
                optimizer.zero_grad()
                self.layer(part).square().mean().backward()
                optimizer.step()
            internals.count_call(self.trainer, len(batch), len(batch))
            self.automatic_optimization = True

    ends: list[tuple[int, int, int]] = []

    def note(trainer: L.Trainer) -> None:
        schedule = trainer.lr_scheduler_configs[0].scheduler
        ends.append((trainer.global_step, len(module.validated), schedule.last_epoch))

    trainer, module = make_trainer(When("on_train_epoch_end", note)), Stacked()
    trainer.fit(module, Loader(6, stack=3), Loader(1))
    assert module.batches == [(0, 0), (0, 3), (1, 0), (1, 3)]
    assert module.steps_begun == [0, 3, 6, 9]
    # The schedule itself is moved by whoever makes the steps; Lightning moves it once a call.
    assert ends == [(6, 1, 2), (12, 2, 4)]
    loops = trainer.fit_loop.state_dict()
    assert loops["epoch_loop.batch_progress"]["total"] == dict.fromkeys(
        ("ready", "started", "processed", "completed"), 12
    )
    assert loops["epoch_loop.scheduler_progress"]["total"] == {"ready": 12, "completed": 12}


# ---- going on from a checkpoint ------------------------------------------------------------------


def saved(stage: internals.LoopStage, path: Path) -> dict[str, Any]:
    """A checkpoint of a training of four batches an epoch, written in the second one or at its end."""

    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if stage != "end" and trainer.global_step == (6 if stage == "mid" else 8):
                trainer.save_checkpoint(path)

        def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if stage == "end" and trainer.global_step == 8:
                trainer.save_checkpoint(path)

        def on_save_checkpoint(self, trainer: L.Trainer, _module: Any, checkpoint: dict[str, Any]) -> None:
            epochs, batches = {"mid": (1, 2), "validate": (1, 4), "end": (2, 0)}[stage]
            internals.write_loop_counters(
                checkpoint, stage, epochs_done=epochs, batches_done=batches, global_step=trainer.global_step
            )

    fit(make_trainer(Save()))
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


def go_on(path: Path, *callbacks: L.Callback, num_train: int = NUM_BATCHES, **arguments: Any) -> Module:
    module, data = Module(), Data()
    data.num_train = num_train
    make_trainer(*callbacks, **{"max_epochs": 3, **arguments}).fit(module, datamodule=data, ckpt_path=path)
    return module


@pytest.mark.parametrize(
    ("stage", "first", "validated"),
    [("mid", (1, 2), [8, 12]), ("validate", (2, 0), [8, 12]), ("end", (2, 0), [12])],
)
def test_write_loop_counters(
    stage: internals.LoopStage, first: tuple[int, int], validated: list[int], tmp_path: Path
) -> None:
    saved(stage, tmp_path / "last.ckpt")
    module = go_on(tmp_path / "last.ckpt")
    whole = [(epoch, batch) for epoch in range(3) for batch in range(NUM_BATCHES)]
    assert module.batches == whole[whole.index(first) :]
    assert module.validated == validated
    assert module.steps_begun[0] == NUM_BATCHES * first[0] + first[1]


def test_batches_behind(tmp_path: Path) -> None:
    found: list[int] = []
    look = When("on_train_start", lambda trainer: found.append(internals.batches_behind(trainer)))
    for stage in ("mid", "end"):
        saved(stage, tmp_path / "last.ckpt")
        go_on(tmp_path / "last.ckpt", look)
    assert found == [2, 0]


def test_start_a_whole_epoch(tmp_path: Path) -> None:
    saved("end", tmp_path / "last.ckpt")
    module = go_on(tmp_path / "last.ckpt", When("on_train_start", internals.start_a_whole_epoch), max_steps=11)
    assert module.batches == [(2, 0), (2, 1), (2, 2)]


@pytest.mark.parametrize("num_train", [2, NUM_BATCHES, 7])
def test_validate_where_it_stands(num_train: int, tmp_path: Path) -> None:
    """The epoch of the checkpoint had four batches; those that follow have another number."""
    saved("validate", tmp_path / "last.ckpt")
    stands = When("on_train_start", internals.validate_where_it_stands)
    module = go_on(tmp_path / "last.ckpt", stands, num_train=num_train, max_epochs=2)
    assert (module.validated, module.batches) == ([8], [])


def test_epochs_in(tmp_path: Path) -> None:
    found = [internals.epochs_in(saved(stage, tmp_path / "last.ckpt")) for stage in ("mid", "validate", "end")]
    assert found == [1, 1, 2]
    assert internals.epochs_in({"state_dict": {}}) == 0


# ---- what callbacks know -------------------------------------------------------------------------


def test_is_early_stopped() -> None:
    stops = EarlyStopping("loss", patience=2, min_delta=100.0)
    module, _ = fit(make_trainer(stops, max_epochs=9))
    assert module.current_epoch == 3, "two epochs without a gain of 100"
    assert internals.is_early_stopped(stops)
    assert not internals.is_early_stopped(EarlyStopping("loss", patience=2))
    assert not internals.is_early_stopped(L.Callback())


@pytest.mark.parametrize("mode", ["min", "max"])
def test_forget_best(mode: str, tmp_path: Path) -> None:
    """What an epoch with an incomparable value left behind; the next values are better than nothing."""
    keeps = ModelCheckpoint(tmp_path, monitor="loss", mode=mode, save_top_k=1)
    stops = EarlyStopping("loss", mode=mode, patience=3)
    out_of_reach = torch.tensor(-1e9 if mode == "min" else 1e9)

    def change(trainer: L.Trainer) -> None:
        if trainer.current_epoch == 1:
            keeps.best_model_score = stops.best_score = out_of_reach
            keeps.best_k_models, keeps.kth_value = {str(tmp_path / "old.ckpt"): out_of_reach}, out_of_reach
            keeps.kth_best_model_path, stops.wait_count = str(tmp_path / "old.ckpt"), 2
            for callback in (keeps, stops, L.Callback()):
                internals.forget_best(callback)
            assert (stops.wait_count, keeps.best_model_path, keeps.best_model_score) == (0, "", None)

    module, _ = fit(make_trainer(keeps, stops, When("on_train_batch_start", change), max_epochs=3))
    assert module.current_epoch == 3
    assert Path(keeps.best_model_path).exists()
    for score in (keeps.best_model_score, keeps.kth_value, stops.best_score):
        assert score is not None
        assert abs(float(score)) < 100


def test_adapt_callback_states(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    keeps, stops = ModelCheckpoint(before, monitor="loss"), EarlyStopping("loss", patience=2)
    trainer = make_trainer(keeps, stops)
    fit(trainer)
    trainer.save_checkpoint(before / "last.ckpt")
    before.rename(after)
    checkpoint = torch.load(after / "last.ckpt", weights_only=False)
    moved, patient = ModelCheckpoint(after, monitor="loss"), EarlyStopping("loss", patience=7)
    internals.adapt_callback_states(checkpoint, [moved, patient])
    torch.save(checkpoint, after / "last.ckpt")
    states = checkpoint["callbacks"]
    assert set(states) == {moved.state_key, patient.state_key}
    best = Path(states[moved.state_key]["best_model_path"])
    assert best == after / Path(keeps.best_model_path).name
    assert list(states[moved.state_key]["best_k_models"]) == [str(best)]
    assert states[patient.state_key]["patience"] == 7
    again = make_trainer(moved, patient, max_epochs=3)
    fit(again, ckpt_path=after / "last.ckpt", weights_only=False)
    assert patient.patience == 7
    assert Path(moved.best_model_path).parent == after

    internals.adapt_callback_states(checkpoint, [ModelCheckpoint(tmp_path / "empty", monitor="loss")])
    assert checkpoint["callbacks"] == {}, "another folder without the files, and no early stopping"


# ---- nobody else ---------------------------------------------------------------------------------

PACKAGE = Path(internals.__file__).parent
OF_LOOPS = {"fit_loop", "epoch_loop", "val_loop", "validate_loop", "test_loop", "predict_loop", "restarting"}
OF_LOOPS |= {"batch_progress", "epoch_progress", "optim_progress", "scheduler_progress", "val_check_batch"}
OF_CALLBACKS = {"best_k_models", "kth_value", "kth_best_model_path", "monitor_op", "wait_count", "best_score"}
OF_TRAINERS = {"datamodule", "callbacks", "overfit_batches", "fast_dev_run"}
IN_CHECKPOINTS = {"loops", "fit_loop", "callbacks", "lr_schedulers", "optimizer_states"}


def private_names() -> set[str]:
    """Names with an underscore that Lightning's objects have in a fit."""
    trainer = make_trainer(ModelCheckpoint("files"), EarlyStopping("loss"), max_epochs=1)
    module, data = fit(trainer)
    loop = trainer.fit_loop
    objects: list[object] = [trainer, module, data, loop, loop.epoch_loop, loop.epoch_loop.val_loop, loop._data_fetcher]
    objects += [trainer.strategy, trainer.precision_plugin, trainer._signal_connector, *internals.callbacks_of(trainer)]
    names = {name for one in objects for name in dir(one)} - set(dir(nn.Module())) - set(vars(Module()))
    return {name for name in names if is_private(name)}


def own_names(cls: type) -> set[str]:
    """Attributes that the source of a class takes from `self`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses(tree: ast.AST, private: set[str]) -> Iterator[tuple[int, str]]:
    """(line, name) of what a file touches of Lightning's private parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr in OF_LOOPS | OF_CALLBACKS or (node.attr in private and owner not in ("self", "cls")):
                yield node.lineno, f"{owner}.{node.attr}"
            if node.attr in OF_TRAINERS and owner.rpartition(".")[2] in ("trainer", "_trainer"):
                yield node.lineno, f"{owner}.{node.attr}"
        if isinstance(node, ast.Subscript | ast.Call):
            keys = [node.slice] if isinstance(node, ast.Subscript) else node.args
            for key in keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    is_key = isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("checkpoint")
                    if key.value in private or (is_key and key.value in IN_CHECKPOINTS):
                        yield node.lineno, key.value


def test_nobody_else_touches_them() -> None:
    private = private_names()
    assert {"_combined_loader", "_data_fetcher", "_signal_connector", "_broadcast_sigterm_tensor"} <= private
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != Path(internals.__file__)
        for line, name in uses(ast.parse(path.read_text()), private)
    ]
    assert not found, "put them behind a function of lightning_internals.py:\n" + "\n".join(found)


def test_our_own_private_names_do_not_hide_those_of_lightning() -> None:
    from litscope.data.datamodule import ClassificationData
    from litscope.evaluation.evaluation_data import EvaluationData
    from litscope.models.classifier import Classifier
    from litscope.training.loop.checkpoints import AtomicCheckpointIO
    from litscope.training.loop.ema import AveragedWeights
    from litscope.training.loop.recorder import Recorder
    from litscope.watch.scope import Scope

    for ours in (Classifier, ClassificationData, EvaluationData, AtomicCheckpointIO, AveragedWeights, Recorder, Scope):
        theirs = [base for base in ours.__mro__ if base.__module__.startswith("lightning.")]
        assert theirs
        private = {name for base in theirs for name in {*dir(base), *own_names(base)} if is_private(name)}
        hidden = {name for name in own_names(ours) if is_private(name)} & private
        assert not hidden, f"{ours.__name__}: {hidden} are Lightning's own names"


def test_the_check_sees_what_it_should() -> None:
    code = (
        "trainer.fit_loop.max_epochs = 3\nself._trainer.datamodule\nmodule._trainer\nself._mine\n"
        "getattr(model, '_trainer')\ncheckpoint['loops']\ntrainer.global_step\nfacts['loops']\nrecipe.callbacks\n"
    )
    found = {line for line, _ in uses(ast.parse(code), {"_trainer", "_mine"})}
    assert found == {1, 2, 3, 5, 6}
