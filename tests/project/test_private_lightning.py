"""Nobody but `lightning_internals` touches Lightning's private parts, and no name of ours hides one of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from line_fits import Module, fit, make_trainer
from torch import nn

from litscope import lightning_internals as internals
from litscope.training.quiet import quiet_lightning

PACKAGE = Path(internals.__file__).parent
OF_LOOPS = {"fit_loop", "epoch_loop", "val_loop", "validate_loop", "test_loop", "predict_loop", "restarting"}
OF_LOOPS |= {"batch_progress", "epoch_progress", "optim_progress", "scheduler_progress", "val_check_batch"}
OF_CALLBACKS = {"best_k_models", "kth_value", "kth_best_model_path", "monitor_op", "wait_count", "best_score"}
OF_TRAINERS = {"datamodule", "callbacks", "overfit_batches", "fast_dev_run"}
IN_CHECKPOINTS = {"loops", "fit_loop", "callbacks", "lr_schedulers", "optimizer_states"}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with quiet_lightning():
        yield


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
    telling = OF_LOOPS | OF_CALLBACKS | OF_TRAINERS | private
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in telling:
            owner = ast.unparse(node.value)
            if node.attr in OF_LOOPS | OF_CALLBACKS or (node.attr in private and owner not in ("self", "cls")):
                yield node.lineno, f"{owner}.{node.attr}"
            if node.attr in OF_TRAINERS and owner.rpartition(".")[2] in ("trainer", "_trainer"):
                yield node.lineno, f"{owner}.{node.attr}"
        if isinstance(node, ast.Subscript | ast.Call):
            keys = [node.slice] if isinstance(node, ast.Subscript) else node.args
            for key in keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    is_part = key.value in IN_CHECKPOINTS and isinstance(node, ast.Subscript)
                    if key.value in private or (is_part and ast.unparse(node.value).endswith("checkpoint")):
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
    from litscope.evaluation.evaluation_data_module import EvaluationDataModule
    from litscope.models.classifier import Classifier
    from litscope.training.loop.checkpoints import AtomicCheckpointIO
    from litscope.training.loop.ema import AveragedWeights
    from litscope.training.loop.recorder import Recorder
    from litscope.watch.scope import Scope

    lightnings = (Classifier, ClassificationData, EvaluationDataModule, AtomicCheckpointIO)
    for ours in (*lightnings, AveragedWeights, Recorder, Scope):
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
