"""Imports that cost less: a command spends most of its first seconds in those of torch and what is built on it.

`hasten` is for processes of our own, the commands: it changes how Python imports two kinds of modules.

    HEAVY           no search for cycles of garbage meanwhile: imports make a million objects that stay, and each search
                    looks at all of them. A fifth of the time of the imports.
    LATER           imported when one of their names is asked for. torchmetrics imports scipy.signal to give it back an
                    old name, `hamming`, for the sake of a package that is not used here; timm imports wandb, where it
                    is installed, for a script.
"""

from __future__ import annotations

import gc
import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

HEAVY = frozenset(
    ("torch", "torchvision", "torchmetrics", "lightning", "timm", "matplotlib", "sklearn", "pandas", "s3fs", "gcsfs")
)
"""Packages whose import makes so many objects that looking through them takes long."""

LATER = frozenset(("scipy.signal", "wandb"))


def hasten() -> None:
    """Put the finder of these modules first on `sys.meta_path`, once per process."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds what Python would find, with another loader; everything else it leaves to the next finder."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called by Python for every module that is not imported yet."""
        if name not in HEAVY and name not in LATER:
            parent = sys.modules.get(name.rpartition(".")[0])
            if isinstance(parent, _Empty):  # a part of it counts on the whole
                parent.fill()
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            kind = _Later if name in LATER else _WithoutSearch
            spec.loader = kind(spec.loader.name, spec.loader.path)
        return spec


class _WithoutSearch(SourceFileLoader):
    """Runs a module while nobody looks for cycles."""

    def exec_module(self, module: ModuleType) -> None:
        """As Python's own; of several inside each other the outermost counts."""
        if not gc.isenabled():
            super().exec_module(module)
            return
        gc.disable()
        try:
            super().exec_module(module)
        finally:
            gc.enable()


class _Later(SourceFileLoader):
    """Runs a module when one of its names is asked for."""

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""
        module.__class__ = _Empty

    def run(self, module: ModuleType) -> None:
        """Fill it."""
        super().exec_module(module)


class _Empty(ModuleType):
    """A module before its first use, and while it runs."""

    def __getattr__(self, name: str) -> Any:
        """Called for names that it does not have."""
        if name == "hamming":  # asked for by torchmetrics, which would give scipy.signal just this
            return _hamming
        with _lock:
            if self in _running:  # it asks for what it does not have yet
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            self.fill()
        return getattr(self, name)

    def fill(self) -> None:
        """Run the module; of several threads one does, and the others wait."""
        with _lock:
            if type(self) is not _Empty or self in _running:
                return
            assert self.__spec__ is not None
            assert isinstance(self.__spec__.loader, _Later)
            module: ModuleType = self
            _running.append(module)
            try:
                self.__spec__.loader.run(module)
            finally:
                _running.pop()
            if module.__name__ == "scipy.signal":
                module.__dict__.setdefault("hamming", _hamming)
            module.__class__ = ModuleType


_running: list[ModuleType] = []
_lock = threading.RLock()


def _hamming(*args: Any, **named: Any) -> Any:
    from scipy.signal import windows

    return windows.hamming(*args, **named)
