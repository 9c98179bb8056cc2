"""Imports that cost less: a command spends most of its first seconds in those of torch and what is built on it.

`hasten` is for processes of our own, the commands: it changes how Python imports two kinds of modules.

    HEAVY           no search for cycles of garbage meanwhile: imports make a million objects that stay, and each search
                    looks at all of them. A fifth of the time of the imports.
    scipy.signal    imported when somebody uses it. torchmetrics imports it to give it back an old name, `hamming`, for
                    the sake of a package that is not used here.
"""

from __future__ import annotations

import gc
import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

HEAVY = frozenset(
    ("torch", "torchvision", "torchmetrics", "lightning", "timm", "matplotlib", "pandas", "fsspec", "s3fs", "gcsfs")
)
"""Packages whose import makes so many objects that looking through them takes long."""

LATER = "scipy.signal"


def hasten() -> None:
    """Put the finder of these modules first on `sys.meta_path`, once per process."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds what Python would find, with another loader; everything else it leaves to the next finder."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called by Python for every module that is not imported yet."""
        if name not in HEAVY and name != LATER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            kind = _Later if name == LATER else _WithoutSearch
            spec.loader = kind(spec.loader.name, spec.loader.path)
        return spec


class _WithoutSearch(SourceFileLoader):
    """Runs a module while nobody looks for cycles; what it made is never looked at again."""

    def exec_module(self, module: ModuleType) -> None:
        """As Python's own; of several inside each other the outermost counts."""
        if not gc.isenabled():
            super().exec_module(module)
            return
        gc.disable()
        try:
            super().exec_module(module)
        finally:
            gc.freeze()
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
    """scipy.signal before its first use."""

    def __getattr__(self, name: str) -> Any:
        """Called for names that it does not have yet."""
        if name == "hamming":  # asked for by torchmetrics, which would give it just this
            return _hamming
        module: ModuleType = self
        with _lock:
            if type(self) is _Empty:
                loader = self.__spec__.loader if self.__spec__ is not None else None
                assert isinstance(loader, _Later)
                module.__class__ = _Filling
                try:
                    loader.run(self)
                except BaseException:
                    module.__class__ = _Empty
                    raise
                self.__dict__.setdefault("hamming", _hamming)
                module.__class__ = ModuleType
        return getattr(module, name)


class _Filling(ModuleType):
    """The same while it runs, for the one thread that runs it."""


_lock = threading.RLock()


def _hamming(*args: Any, **named: Any) -> Any:
    from scipy.signal import windows

    return windows.hamming(*args, **named)
