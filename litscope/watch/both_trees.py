"""Callbacks of both class trees: `lightning.pytorch` and `pytorch_lightning` each take only callbacks of their own.

The other package is never imported here: importing it takes seconds, and who does not use it may not have it. So a
class becomes one of both when it is asked for, or when an object of it is made, if that package is there by then.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar, cast

import lightning.pytorch as L

Class = TypeVar("Class", bound=type)

_twins: dict[type, type] = {}


class CallbackOfBothTrees(L.Callback):
    """A callback of `lightning.pytorch`, and of `pytorch_lightning` where that is imported.

    `__new__` stands here and not in the class that people use: what reads signatures, as LightningCLI does, then takes
    them from that class's `__init__`.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        """An object of the class, or of its twin."""
        return super().__new__(of_both_trees(cls))

    def __reduce__(self) -> Any:
        """A twin has no name that another process could import."""
        own = next((own for own, twin in _twins.items() if twin is type(self)), type(self))
        return _rebuild, (own, self.__dict__)


def of_both_trees(cls: Class) -> Class:
    """The class itself; where pytorch_lightning is imported, one of the same name that is a callback of that, too."""
    if "pytorch_lightning" not in sys.modules:
        return cls
    other = sys.modules["pytorch_lightning"].Callback
    if issubclass(cls, other):
        return cls
    if cls not in _twins:
        _twins[cls] = type(cls.__name__, (cls, other), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    return cast("Class", _twins[cls])


def _rebuild(cls: type[CallbackOfBothTrees], state: dict[str, Any]) -> CallbackOfBothTrees:
    callback: CallbackOfBothTrees = cls.__new__(cls)
    callback.__dict__.update(state)
    return callback
