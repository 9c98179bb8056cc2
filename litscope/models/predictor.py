"""Predictor: a trained classifier that only predicts, and that needs no Lightning, whose import takes seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from litscope.models.forward import Forward
from litscope.models.keywords import ClassifierKeywords
from litscope.models.networks import architectures
from litscope.models.settings import ClassifierSettings
from litscope.settings import by_own_names


class Predictor(Forward):
    """The network of a `Classifier` with the same settings; its weights have the same names.

    Args: the settings, as `Classifier` takes them.

    Raises: as `Classifier`.
    """

    def __init__(self, arch: str | None = None, **given: Unpack[ClassifierKeywords]) -> None:
        super().__init__()
        words = {**given, **({} if arch is None else {"arch": arch})}
        self._settings = ClassifierSettings(**by_own_names(ClassifierSettings, words, "Classifier"))
        for name in (self._settings.arch, *(self._settings.archs or ())):
            if name is not None:
                architectures.resolve(name)
        if self.has_shape:
            self._build(from_scratch=False)

    @property
    def settings(self) -> ClassifierSettings:
        """What was given, and what the weights decided since."""
        return self._settings

    def _remember(self, **known: Any) -> None:
        self._settings = replace(self._settings, **known)
