"""Settings: dataclass fields that bring their further names and their range, taken as keywords by a class.

    @dataclass(frozen=True, kw_only=True)
    class Rates:
        lr: float = setting(1e-3, "learning-rate", check=NOT_NEGATIVE)
        \"""Learning rate.\"""

        def __post_init__(self) -> None:
            settle(self)

    class Model:
        def __init__(self, **given: Unpack[ModelKeywords]) -> None:
            self.rates = Rates(**by_own_names(Rates, given, "Model"))

`Model(learning_rate="x")` is refused with a sentence, and a further setting is one more field. Editors know the
keywords by a TypedDict, which `scripts/keywords.py` writes from the fields. No torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

from litscope.errors import ConfigError, did_you_mean

Check = Callable[[Any], str | None]
"""A value that is not None -> what is allowed, as sentences, if it is not this; None if it is."""


@dataclass(frozen=True)
class Range:
    """A check: a finite number, or each number of a list, from `least` to `most`, or between `above` and `below`.

    >>> Range(least=1)(0), Range(above=0, below=1)(0.5)
    ('it is 1 or more.', None)
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __call__(self, value: Any) -> str | None:
        """Why a value, or one of a list, is out of range; None if it is not. See `Check`."""
        if isinstance(value, list):
            return None if all(map(self._holds, value)) else f"each is {self._words()}."
        return None if self._holds(value) else f"it is {self._words()}."

    def _holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _words(self) -> str:
        if self.most is not None:
            return f"from {self.least} to {self.most}" if self.above is None else f"above {self.above}, to {self.most}"
        if self.below is None:
            return f"{self.least} or more" if self.above is None else f"more than {self.above}"
        low = f"at least {self.least}" if self.above is None else f"more than {self.above}"
        return f"{low} and less than {self.below}"


SHARE = Range(least=0, below=1)
PART = Range(above=0, most=1)
COUNT = Range(least=1)
NOT_NEGATIVE = Range(least=0)
SEED = Range(least=0, most=2**32 - 1)


def setting(default: Any, *also: str, check: Check | None = None, **facts: Any) -> Any:
    """A field with further names, a check of its value, or both.

    Args:
        default: its default; of a list, each object gets a copy.
        also: further names, as flags without their dashes ("learning-rate"); with underscores they are keywords.
        check: of its value, unless that is None.
        facts: what else the room of this dataclass wants to know of the field.
    """
    metadata = {"also": also, "check": check, **facts}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def settle(settings: Any) -> None:
    """For `__post_init__`: give every value the plain type of its field (int, float, bool, str, lists of floats), and
    refuse what is out of range or no word that the field knows. Other objects stay as they are.

    Raises:
        ConfigError: with the name, the value and what is allowed.
    """
    cls: type = type(settings)
    hints = _hints(cls)
    for field in dataclasses.fields(settings):
        value = _plain(field.name, getattr(settings, field.name), hints[field.name])
        object.__setattr__(settings, field.name, value)  # frozen for everybody else
        check: Check | None = field.metadata.get("check")
        allowed = None if check is None or value is None else check(value)
        if allowed is not None:
            raise ConfigError(f"{field.name}={value}: {allowed}")


def by_own_names(cls: type, given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Keywords by the fields' own names, where they came by any.

    Args:
        cls: the dataclass.
        given: keywords; further names have underscores.
        owner: who takes them, for messages.

    Raises:
        ConfigError: for a name that no field has, or two names of one field.
    """
    names = all_names(cls)
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            close = did_you_mean(name, names) or f" It has {', '.join(f.name for f in dataclasses.fields(cls))}."
            raise ConfigError(f"{owner} has no setting {name!r}.{close}")
        own = names[name]
        if own in found:
            raise ConfigError(f"{owner}: {name}= is another name of a setting that is given too, {own}=; give one.")
        found[own] = value
    return found


@cache
def all_names(cls: type) -> dict[str, str]:
    """Every name of every field, with underscores -> the field's own."""
    return {
        name.replace("-", "_"): field.name
        for field in dataclasses.fields(cls)
        for name in (field.name, *field.metadata.get("also", ()))
    }


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(name: str, value: Any, hint: Any) -> Any:
    form = _form(hint)
    if value is None and type(None) in form.parts:
        return None
    words = form.words
    if words and value not in words:
        raise ConfigError(f"{name}={value!r}: it is one of {', '.join(words)}.{did_you_mean(str(value), words)}")
    if isinstance(value, str) and str in form.parts:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if form.maker is None:
        return value
    make, what = form.maker
    try:
        return make(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value!r}: it is {what}.") from None


class _Form(typing.NamedTuple):
    """A field's hint, taken apart: the types that it joins, the words that it allows, how its value is made plain."""

    parts: tuple[Any, ...]
    words: list[Any]
    maker: tuple[Callable[[Any], Any], str] | None


@cache
def _form(hint: Any) -> _Form:  # a classifier asks for its settings at every step
    is_union = typing.get_origin(hint) in (Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    words = [word for part in parts if typing.get_origin(part) is Literal for word in typing.get_args(part)]
    makers = (_MAKERS.get(part) or _MAKERS.get(typing.get_origin(part)) for part in parts)
    return _Form(parts, words, next((maker for maker in makers if maker is not None), None))


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError
    return int(value)


def _wholes(values: Iterable[Any]) -> list[int]:
    return [_whole(value) for value in values]


def _floats(values: Iterable[Any]) -> list[Any]:
    """Lists of floats, nested as they are, of any sequences, arrays or tensors."""
    return [_floats(value) if _is_nested(value) else float(value) for value in values]


def _is_nested(value: Any) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str)) or getattr(value, "ndim", 0) > 0


_MAKERS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    bool: (bool, "true or false"),
    int: (_whole, "a whole number"),
    float: (float, "a number"),
    Sequence[int]: (_wholes, "a list of whole numbers"),
    Sequence[str]: (lambda words: [words] if isinstance(words, str) else list(words), "a text, or a list of texts"),
    Sequence: (_floats, "a list of numbers"),
}
"""Type of a field -> what makes a plain value of it, and what it is called."""
