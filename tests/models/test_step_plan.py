"""How long a warm-up is, as the loops of a trainer tell the length of its epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from litscope.models.learning.step_plan import StepPlan


@pytest.mark.parametrize(
    ("epochs", "asked", "steps"),
    [(40, None, 10), (100, None, 25), (200, None, 25), (200, 8.0, 40), (None, None, 0)],
    ids=["a twentieth", "five epochs", "never more", "unless asked for", "an open end"],
)
def test_the_warm_up(epochs: int | None, asked: float | None, steps: int) -> None:
    trainer: Any = SimpleNamespace(num_training_batches=10, accumulate_grad_batches=2)  # five steps an epoch
    total = None if epochs is None else 5 * epochs
    assert StepPlan(trainer, None).warmup(total, asked) == steps
