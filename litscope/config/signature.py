"""names_flags: the signature of a call that takes every flag as a keyword, for `help()` and for notebooks. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from litscope.config.fields import fields

F = TypeVar("F", bound=Callable[..., object])


def names_flags(call: F) -> F:
    """Show, in place of `**flags`, a keyword for each flag that the call has no argument for, with type and default.

    Type checkers know them by `FitKeywords`, with their further names.
    """
    shown = inspect.signature(call)
    own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {parameter.name for parameter in own}
    flags = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.hint)
        for f in fields()
        if f.name not in taken
    ]
    call.__signature__ = shown.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    return call
