"""Early stopping: made at the start of a run whose recipe has it, or by `set` while the run trains."""

from __future__ import annotations

from lightning.pytorch.callbacks import EarlyStopping

from litscope.config.recipe import Recipe

TO_TRAIN_ON = "to train on, give --no-early-stopping, more --patience, or more --epochs"
"""What is said of a run that early stopping ended."""


def make_early_stopping(recipe: Recipe, patience: int) -> EarlyStopping:
    """Lightning's early stopping, for a recipe that has a monitor."""
    training = recipe.training
    assert training.monitor is not None
    return EarlyStopping(
        monitor=training.monitor,
        mode=training.mode or "min",
        patience=patience,
        min_delta=training.min_delta,
        check_on_train_epoch_end=True,
        check_finite=False,  # a NaN metric (AUROC of an absent class) is no reason; `LossWatch` catches a NaN loss
    )
