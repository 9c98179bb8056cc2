"""litscope: train classifiers on PyTorch Lightning, with every sample on record.

The public names are resolved on first use, so that `import litscope` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from litscope import _torchvision

if TYPE_CHECKING:
    from litscope.calls import cv as cv
    from litscope.calls import lr_find as lr_find
    from litscope.calls import tune as tune
    from litscope.config.recipe import Recipe as Recipe
    from litscope.data.datamodule import ClassificationData as ClassificationData
    from litscope.data.manifest import Manifest as Manifest
    from litscope.delivery.deliver import export_model as export_model
    from litscope.errors import LitscopeError as LitscopeError
    from litscope.errors import UserError as UserError
    from litscope.evaluation.ensemble import Ensemble as Ensemble
    from litscope.evaluation.evaluate import evaluate as evaluate
    from litscope.evaluation.model import Model as Model
    from litscope.evaluation.model import load as load
    from litscope.evaluation.predict import predict as predict
    from litscope.experiments.ensemble import ensemble as ensemble
    from litscope.experiments.pruned import Pruning as Pruning
    from litscope.ledger.reader import LedgerReader as LedgerReader
    from litscope.models.classifier import Classifier as Classifier
    from litscope.opened import Run as Run
    from litscope.opened import open_run as open_run
    from litscope.rundir import RunDir as RunDir
    from litscope.training.fit import fit as fit

__version__ = "0.1.0"

_HOME = {
    "ClassificationData": "litscope.data.datamodule",
    "Classifier": "litscope.models.classifier",
    "Ensemble": "litscope.evaluation.ensemble",
    "LedgerReader": "litscope.ledger.reader",
    "LitscopeError": "litscope.errors",
    "Manifest": "litscope.data.manifest",
    "Model": "litscope.evaluation.model",
    "Pruning": "litscope.experiments.pruned",
    "Recipe": "litscope.config.recipe",
    "Run": "litscope.opened",
    "RunDir": "litscope.rundir",
    "UserError": "litscope.errors",
    "cv": "litscope.calls",
    "ensemble": "litscope.experiments.ensemble",
    "evaluate": "litscope.evaluation.evaluate",
    "export_model": "litscope.delivery.deliver",
    "fit": "litscope.training.fit",
    "load": "litscope.evaluation.model",
    "lr_find": "litscope.calls",
    "open_run": "litscope.opened",
    "predict": "litscope.evaluation.predict",
    "tune": "litscope.calls",
}
"""Where each public name lives."""

__all__ = [
    "ClassificationData",
    "Classifier",
    "Ensemble",
    "LedgerReader",
    "LitscopeError",
    "Manifest",
    "Model",
    "Pruning",
    "Recipe",
    "Run",
    "RunDir",
    "UserError",
    "__version__",
    "cv",
    "ensemble",
    "evaluate",
    "export_model",
    "fit",
    "load",
    "lr_find",
    "open_run",
    "predict",
    "tune",
]

_torchvision.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'litscope' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
