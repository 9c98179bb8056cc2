"""The table of all fields of a recipe: names, type, default and meaning, read off the dataclasses.

Everything that names a field goes through here: flags, YAML keys, keywords of the Python API, the
help and the table in the docs. So does every value from outside: `typed` turns it into the field's
type, with jsonargparse's rules, or says what was expected.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import types
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

from litscope.config import recipe as recipe_module
from litscope.config.recipe import Recipe
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

GROUPS: dict[str, type] = {group.name: typing.cast(type, group.default_factory) for group in dataclasses.fields(Recipe)}
"""Name of each part of a recipe -> its dataclass."""


@dataclass(frozen=True)
class Field:
    """One field of a recipe.

    Attributes:
        group, name: `training`, `lr`.
        also: further names, with dashes: ("learning-rate",).
        hint: the type, as in the dataclass.
        default: its default.
        doc: its docstring, one line of text.
    """

    group: str
    name: str
    also: tuple[str, ...]
    hint: Any
    default: Any
    doc: str

    @property
    def key(self) -> str:
        """The YAML key: `training.lr`."""
        return f"{self.group}.{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, with underscores; the field's own comes first."""
        return (self.name, *(name.replace("-", "_") for name in self.also))

    @property
    def flags(self) -> tuple[str, ...]:
        """All its flags: ("--lr", "--learning-rate")."""
        return tuple("--" + name.replace("_", "-") for name in self.names)

    @property
    def flag(self) -> str:
        """The flag to name in messages."""
        return self.flags[0]

    @property
    def parts(self) -> tuple[Any, ...]:
        """The members of its type's union, None left out: (int, float)."""
        is_union = typing.get_origin(self.hint) in (Union, types.UnionType)
        return tuple(p for p in typing.get_args(self.hint) if p is not type(None)) if is_union else (self.hint,)

    @property
    def may_be_none(self) -> bool:
        """Whether None (choose from the data, or off) is a value."""
        return type(None) in typing.get_args(self.hint)

    @property
    def is_bool(self) -> bool:
        """Whether it has a --no- flag too."""
        return bool in self.parts

    @property
    def is_list(self) -> bool:
        """Whether it holds several values."""
        return typing.get_origin(self.parts[0]) is list

    @property
    def is_text(self) -> bool:
        """Whether its values are texts (choices too), so that a bare number in YAML is its digits."""
        return self.parts[0] is str or typing.get_origin(self.parts[0]) is Literal

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, if they are a fixed set."""
        part = typing.get_args(self.parts[0])[0] if self.is_list else self.parts[0]
        return typing.get_args(part) if typing.get_origin(part) is Literal else ()

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        if self.choices:
            return f"{'any' if self.is_list else 'one'} of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        if self.is_list:
            return "a list of numbers" if float in typing.get_args(self.parts[0]) else "a list of words"
        return " or ".join(words.get(p) or ", ".join(typing.get_args(p)) for p in self.parts)


@cache
def fields() -> tuple[Field, ...]:
    """All fields, in the order of the dataclasses."""
    table = []
    for group, cls in GROUPS.items():
        hints = typing.get_type_hints(cls)
        docs = _docs()[cls.__name__]
        for f in dataclasses.fields(cls):
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            table.append(Field(group, f.name, f.metadata.get("also", ()), hints[f.name], default, docs[f.name]))
    return tuple(table)


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


@cache
def group_doc(group: str) -> str:
    """The docstring of a part of the recipe."""
    return str(GROUPS[group].__doc__)


@cache
def _docs() -> dict[str, dict[str, str]]:
    """Class name -> field name -> the docstring below the field."""
    tree = ast.parse(Path(recipe_module.__file__).read_text(encoding="utf-8"))
    docs: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found = docs.setdefault(node.name, {})
            for statement, below in zip(node.body, node.body[1:], strict=False):
                match statement, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                        found[name] = " ".join(doc.split())
    return docs


def typed(field: Field, value: Any, where: str) -> Any:
    """`value` in the field's type.

    Args:
        field: the field that it is for.
        value: a text (from a flag), a YAML value or a Python object.
        where: how messages call it: `--lr`, or `training.lr (file.yaml, line 3)`.

    Raises:
        ConfigError: with the value and what is expected.
    """
    if value is None and field.may_be_none:
        return None
    if field.key == "data.augment":
        value = {"true": "default", "false": "none"}.get(str(value).lower(), value)
    if field.key == "hardware.devices" and isinstance(value, list | tuple):
        value = ",".join(map(str, value)) + ("," if len(value) == 1 else "")
    if field.is_list:
        return _numbers(field, value, where) if field.expected == "a list of numbers" else _words(field, value, where)
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
        raise ConfigError(f"{where}: {value!r} is not {field.expected}.{hint}") from None


@cache
def _types() -> ArgumentParser:
    """jsonargparse's rules for numbers, truth values and choices, by field name."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False)
    for field in fields():
        if not field.is_list:
            parser.add_argument(f"--{field.name}", type=field.hint)
    return parser


def _numbers(field: Field, value: Any, where: str) -> list[float]:
    """A list of numbers, from a list or from text with commas."""
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    try:
        return [float(part) for part in parts]
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
