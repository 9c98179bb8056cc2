"""Training that leaves no trace: a Trainer without files, and everything put back afterwards."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.console import say
from litscope.data.datamodule import ClassificationData
from litscope.errors import Interrupted
from litscope.lightning_internals import trainers_kept
from litscope.live.stop_requests import STOP_SIGNALS, catch_stop_requests
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.starter import refuse_company
from litscope.training.hardware import Plan
from litscope.training.prepare import Prepared, prepare, seeded_classifier
from litscope.training.quiet import quiet_lightning


class EndOnStopRequest(L.Callback):
    """Ctrl-C and SIGTERM end a trial where it is. (Lightning sets its own SIGTERM handler when a fit begins.)"""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Take the handlers over; `unchanged` puts the earlier ones back."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._end)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"Interrupted by {signal.Signals(number).name}.")


def trial_of(recipe: Recipe) -> tuple[Prepared, Classifier]:
    """What `fit` would train, with the weights from which it would go on; what was chosen is said.

    Raises:
        UserError: whatever `fit` would refuse; and decisions of another run, which a trial does not follow.
    """
    refuse_company("A trial of a training")
    start = prepare(recipe)
    if recipe.data.actions is not None:
        raise refuse(
            "actions", recipe.data.actions, "it is for a run, and this measures on the data as they are. Leave it out."
        )
    say(*start.chosen)
    classifier = seeded_classifier(start)
    if start.checkpoint is not None:
        classifier.load_state_dict(load_checkpoint(start.checkpoint)["state_dict"])
    return start, classifier


def trial_trainer(plan: Plan, callback: L.Callback, **arguments: Any) -> L.Trainer:
    """A Trainer that leaves no file and prints nothing, on one device of the plan."""
    devices = plan.devices[:1] if isinstance(plan.devices, list) else 1
    return L.Trainer(
        accelerator=plan.accelerator,
        devices=devices,
        precision=plan.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[callback, EndOnStopRequest()],
        plugins=LightningEnvironment(),  # one process, whoever started it
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


@contextmanager
def unchanged(classifier: Classifier, data: ClassificationData) -> Iterator[None]:
    """Put back random states, training flag, trainers and stop handlers at the end; Lightning is quiet inside."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    was_training = classifier.training
    try:
        with trainers_kept(classifier, data), catch_stop_requests(), quiet_lightning():
            yield
    finally:
        classifier.train(was_training)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def snapshot(classifier: Classifier) -> dict[str, Tensor]:
    """A copy of weights and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in classifier.state_dict().items()}


def restore(classifier: Classifier, before: dict[str, Tensor]) -> None:
    """Weights and buffers as in the snapshot; no gradients."""
    classifier.load_state_dict(before)
    classifier.zero_grad(set_to_none=True)
