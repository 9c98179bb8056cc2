"""The table of all fields of a recipe, and the way of a value from outside into one of them.

Everything that names a field goes through here: flags, YAML keys, keywords of the Python API, the
help and the table in the docs. So does every value from outside: `typed` turns it into the field's
type, with jsonargparse's rules, or says what was expected.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from litscope.addresses import BETWEEN, hidden
from litscope.config.recipe import Recipe
from litscope.config.section import Field, Section
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

GROUPS: dict[str, type[Section]] = {
    part.name: typing.cast(type[Section], part.default_factory)
    for part in dataclasses.fields(Recipe)
    if isinstance(part.default_factory, type) and issubclass(part.default_factory, Section)
}
"""Name of each part of a recipe -> its dataclass."""


@cache
def fields() -> tuple[Field, ...]:
    """All fields, in the order of the sections."""
    return tuple(field for section in GROUPS.values() for field in section.fields())


@cache
def by_name() -> dict[str, Field]:
    """Every name and alias, with underscores -> its field. Names are unique over all groups."""
    table = {name: f for f in fields() for name in f.names}
    assert len(table) == sum(len(f.names) for f in fields()), "two fields share a name"
    return table


@cache
def by_key() -> dict[str, Field]:
    """`training.lr` -> its field."""
    return {f.key: f for f in fields()}


def group_doc(group: str) -> str:
    """The docstring of a part of the recipe."""
    return str(GROUPS[group].__doc__)


def typed(field: Field, value: Any, where: str, written: str | None = None) -> Any:
    """`value` in the field's type.

    Args:
        field: the field that it is for.
        value: a text (from a flag), a YAML value or a Python object.
        where: how messages call it: `--lr`, or `training.lr (file.yaml, line 3)`.
        written: how it stands in its file, where that is not how Python writes it (`1e1`).

    Raises:
        ConfigError: with the value and what is expected.
    """
    if value is None and field.may_be_none:
        return None
    if field.key == "hardware.num_nodes" and value == "auto":
        return None
    if field.key == "data.augment":
        value = {"true": "default", "false": "none"}.get(str(value).lower(), value)
    if field.key == "hardware.devices" and isinstance(value, list | tuple):
        value = ",".join(map(str, value)) + ("," if len(value) == 1 else "")
    if field.is_address:
        return hidden(BETWEEN.join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    if field.is_list:
        return _numbers(field, value, where) if field.item in (int, float) else _words(field, value, where)
    if field.is_text and isinstance(value, int | float | os.PathLike) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and str in field.parts:
        return value
    from jsonargparse import ArgumentError

    try:
        if value is None:
            raise ArgumentError(None, "jsonargparse lets None pass everywhere")
        return getattr(_types().parse_object({field.name: value}, defaults=False), field.name)
    except ArgumentError:
        hint = did_you_mean(str(value), field.choices)
        shown = value if written is None else written
        raise ConfigError(f"{where}: {shown!r} is not {field.expected}.{hint}") from None


@cache
def _types() -> ArgumentParser:
    """jsonargparse's rules for numbers, truth values and choices, by field name."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False)
    for field in fields():
        if not field.is_list:
            parser.add_argument(f"--{field.name}", type=field.hint)
    return parser


def _numbers(field: Field, value: Any, where: str) -> list[int] | list[float]:
    """A list of numbers, from a list or from text with commas."""
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    try:
        numbers = [float(part) for part in parts]
        if field.item is float:
            return numbers
        return [int(str(part)) for part in parts]
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {value!r} is not {field.expected}.") from None


def _words(field: Field, value: Any, where: str) -> list[str]:
    """A list of words, from a list or from text with commas."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
        raise ConfigError(f"{where}: {value!r} is not {field.expected}.")
    if isinstance(value, str):
        words = [w.strip() for w in words if w.strip()]
    for word in words:
        if field.choices and word not in field.choices:
            raise ConfigError(f"{where}: {word!r} is not {field.expected}.{did_you_mean(word, field.choices)}")
    return list(words)
