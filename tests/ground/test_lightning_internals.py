"""Lightning's private parts: what each function relies on is looked at in a real Trainer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import CombinedLoader
from line_fits import NUM_BATCHES, Data, Loader, Module, fit, make_trainer
from torch import Tensor, nn

from litscope import lightning_internals as internals


class When(L.Callback):
    """Calls a function with the trainer in one hook."""

    def __init__(self, hook: str, act: Callable[[L.Trainer], None]) -> None:
        setattr(self, hook, lambda trainer, *_: act(trainer))


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from litscope.training.quiet import quiet_lightning

    monkeypatch.chdir(tmp_path)
    with quiet_lightning():
        yield


# ---- what a trainer has and does not declare -----------------------------------------------------


@pytest.mark.parametrize("rank", [1, 0])
def test_set_rank(rank: int, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, "", "")
    internals.set_rank(rank)
    try:
        logger.log_metrics({"loss": 1.0})
        logger.save()
    finally:
        internals.set_rank(0)
    assert (tmp_path / "metrics.csv").exists() == (rank == 0)


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


def test_calling_trainer() -> None:
    found: list[object] = []
    trainer = make_trainer(When("on_train_start", lambda _: found.append(internals.calling_trainer())), max_epochs=1)
    assert internals.calling_trainer() is None
    trainer.fit(Module(), datamodule=Data())
    assert found == [trainer]


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
def test_leave_scheduler_alone(is_left_alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of SLURM: a checkpoint of another program in the folder, and the handler of SIGTERM in a fit."""
    for name, value in {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"")
    before, found = signal.getsignal(signal.SIGTERM), []
    note = When("on_fit_start", lambda _: found.append(signal.getsignal(signal.SIGTERM)))
    trainer = make_trainer(note, max_epochs=1, default_root_dir=tmp_path, plugins=[LightningEnvironment()])
    if not is_left_alone:
        with pytest.raises((EOFError, RuntimeError)):  # it reads the empty file
            fit(trainer)
        return
    internals.leave_scheduler_alone(trainer)
    fit(trainer)
    assert trainer.global_step > 0
    assert found == [before]


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


@pytest.mark.parametrize("is_lifted", [False, True])
@pytest.mark.parametrize(("stage", "limits"), [("end", {"max_epochs": 2}), ("validate", {"max_steps": 8})])
def test_limits_that_are_reached_are_lifted_until_a_fit_has_begun(
    stage: internals.LoopStage, limits: dict[str, int], is_lifted: bool, tmp_path: Path
) -> None:
    """Lightning neither starts nor validates there."""
    saved(stage, tmp_path / "last.ckpt")
    started: list[int] = []

    def lift(trainer: L.Trainer) -> None:
        if is_lifted:
            internals.set_max_epochs(trainer, None)
            internals.set_max_steps(trainer, None)

    def put_back(trainer: L.Trainer) -> None:
        internals.set_max_epochs(trainer, limits.get("max_epochs"))
        internals.set_max_steps(trainer, limits.get("max_steps"))

    module = go_on(
        tmp_path / "last.ckpt",
        When("on_fit_start", lift),
        When("on_train_start", lambda trainer: started.append(trainer.global_step)),
        When("on_train_start" if stage == "end" else "on_validation_start", put_back),
        **{"max_epochs": -1, **limits},
    )
    assert started == [8] * is_lifted
    assert (module.validated, module.batches) == ([8] * (is_lifted and stage == "validate"), [])


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


def test_why_not_validated() -> None:
    class Blind(Module):
        validation_step = L.LightningModule.validation_step  # type: ignore[assignment]

    found: list[str | None] = []
    look = When("on_train_start", lambda trainer: found.append(internals.why_not_validated(trainer)))
    fit(make_trainer(look, max_epochs=1))
    make_trainer(look, max_epochs=1).fit(Module(), Loader())
    make_trainer(look, max_epochs=1).fit(Blind(), datamodule=Data())
    fit(make_trainer(look, max_epochs=1, limit_val_batches=0))
    assert found == [
        None,
        "the Trainer was given no validation loader",
        "the module has no validation_step",
        "limit_val_batches is 0",
    ]


def test_trains_nothing() -> None:
    class WithNorm(Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1))

    found: list[bool] = []
    look = When("on_train_batch_start", lambda trainer: found.append(internals.trains_nothing(trainer)))
    average = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    make_trainer(look, average, max_epochs=2).fit(WithNorm(), datamodule=Data())
    assert found == [False] * 2 * NUM_BATCHES + [True] * NUM_BATCHES


def test_hear_loaders() -> None:
    heard: list[tuple[object, str]] = []
    trainer = make_trainer(max_epochs=1, num_sanity_val_steps=1)

    def hears(loader: object, stage: str) -> object:
        heard.append((type(loader), stage))
        return Loader(2) if stage == "train" else loader

    internals.hear_loaders(trainer, hears)
    internals.hear_loaders(trainer, lambda *_: pytest.fail("the first is told, and no second"))
    module, data = fit(trainer)
    trainer.validate(module, datamodule=data, verbose=False)
    assert heard == [(Loader, "validate"), (Loader, "train"), (Loader, "validate")]
    assert len(module.batches) == 2, "what is returned is used"


@pytest.mark.parametrize("mode", ["sequential", "max_size"])
def test_are_evaluated_together(mode: Any) -> None:
    found: list[bool] = []
    start = When("on_validation_start", lambda trainer: found.append(internals.are_evaluated_together(trainer)))

    class Shown(Module):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    both = CombinedLoader([Loader(2), Loader(2)], mode)
    make_trainer(start).validate(Shown(), both, verbose=False)
    assert found == [mode == "max_size"]


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
