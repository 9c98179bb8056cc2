"""From a trainer in `fit` to what it trains and measures: our own data module and classifier, typed."""

from __future__ import annotations

import lightning.pytorch as L

from litscope.data.datamodule import ClassificationData
from litscope.lightning_internals import datamodule_of
from litscope.models.classifier import Classifier


def data_of(trainer: L.Trainer) -> ClassificationData:
    """The data module that the trainer was given."""
    data = datamodule_of(trainer)
    assert isinstance(data, ClassificationData), f"a run trains on ClassificationData, not {type(data).__name__}"
    return data


def classifier_of(trainer: L.Trainer) -> Classifier:
    """The module that the trainer trains."""
    module = trainer.lightning_module
    assert isinstance(module, Classifier), f"a run trains a Classifier, not {type(module).__name__}"
    return module


def metrics_of(trainer: L.Trainer) -> dict[str, float]:
    """The metrics of the last epoch or evaluation by name ("val/loss"), as Python numbers. Waits for the device."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
