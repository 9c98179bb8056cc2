"""A section of the recipe: a dataclass whose fields carry all that is known of them.

    lr: float | None = setting(None, "learning-rate", check=Range(above=0))
    \"\"\"Learning rate at the schedule's peak. Default: chosen from the data.\"\"\"

That is the whole of a new setting. Its flag, its YAML key, its keyword in Python, its line in the help and its row in
the docs are read off here (`Section.fields`), and `Section.check` refuses what its type's words and its `check` do not
allow. What depends on a second field of the section stands in the section's own `check`; what depends on another
section, in `Recipe.check`.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import sys
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Union

from litscope.errors import ConfigError, did_you_mean
from litscope.settings import Check


def one_of(*words: str) -> Check:
    """A check: one of these words, for fields whose type is any text."""

    def check(value: str) -> str | None:
        hint = did_you_mean(value, words)
        return None if value in words else f"it is one of {', '.join(words)}.{hint}"

    return check


def is_folder(value: str) -> str | None:
    """A check: a folder that is there or can be made."""
    if can_be_folder(value):
        return None
    return "it is a folder, or the name of one that can be made; a file is in the way."


def can_be_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or has no file in its way to become one."""
    if not os.fspath(path):
        return False
    return next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists()).is_dir()


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a recipe.

    Attributes:
        group, name: `training`, `lr`.
        hint: the type, as in the dataclass.
        default: its default.
        doc: its docstring, one line of text.
        also, check: as `setting` was given them.
        takes: types of Python, beside that of the hint, that a keyword takes.
        is_address: it may be an address with a secret, which is hidden (`litscope.addresses`).
        is_for_images: a value other than the default (or False) is refused when the data are a table.
    """

    group: str
    name: str
    hint: Any
    default: Any
    doc: str
    also: tuple[str, ...] = ()
    check: Check | None = None
    is_for_images: bool = False
    is_address: bool = False
    takes: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """The YAML key: `training.lr`."""
        return f"{self.group}.{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the field, with underscores; its own comes first."""
        return (self.name, *(name.replace("-", "_") for name in self.also))

    @property
    def flags(self) -> tuple[str, ...]:
        """All its flags: ("--lr", "--learning-rate")."""
        return tuple("--" + name.replace("_", "-") for name in self.names)

    @property
    def flag(self) -> str:
        """The flag to name in messages."""
        return flag_of(self.name)

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
    def item(self) -> Any:
        """The type of a list's values."""
        return typing.get_args(self.parts[0])[0]

    @property
    def is_text(self) -> bool:
        """Whether its values are texts (choices too), so that a bare number in YAML is its digits."""
        return self.parts[0] is str or typing.get_origin(self.parts[0]) is Literal

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, if they are a fixed set."""
        part = self.item if self.is_list else self.parts[0]
        return typing.get_args(part) if typing.get_origin(part) is Literal else ()

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        if self.choices:
            return f"{'any' if self.is_list else 'one'} of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        if self.is_list:
            return {int: "a list of whole numbers", float: "a list of numbers", str: "a list of words"}[self.item]
        return " or ".join(words.get(p) or ", ".join(typing.get_args(p)) for p in self.parts)

    def refusal(self, value: Any) -> str | None:
        """What is allowed instead of `value`, as sentences; None if it is fine."""
        for word in value if isinstance(value, list) else [value]:
            if self.choices and word is not None and word not in self.choices:
                return f"it is {self.expected}.{did_you_mean(str(word), self.choices)}"
        if self.check is None or value is None:
            return None
        return self.check(value)


class Section:
    """A part of the recipe.

    Attributes:
        group: its name in YAML and in `Recipe`, given with the class: `class ModelConfig(Section, group="model")`.
    """

    group: ClassVar[str]

    def __init_subclass__(cls, group: str) -> None:
        cls.group = group

    @classmethod
    @cache
    def fields(cls) -> tuple[Field, ...]:
        """Its fields, in their order."""
        hints, docs = typing.get_type_hints(cls), docs_of(cls)
        return tuple(_read(cls.group, f, hints[f.name], docs[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    def check(self) -> None:
        """Check each value, then what stands in the section's own `check`.

        Raises:
            ConfigError: naming the flag, its value and what is allowed.
        """
        for known in self.fields():
            value = getattr(self, known.name)
            allowed = known.refusal(value)
            if allowed is not None:
                raise refuse(known.name, value, allowed)


def _read(group: str, f: dataclasses.Field[Any], hint: Any, doc: str) -> Field:
    default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    return Field(group, f.name, hint, default, doc, **f.metadata)


def docs_of(cls: type) -> dict[str, str]:
    """Field name -> the docstring below the field, from the file that holds the class."""
    file = sys.modules[cls.__module__].__file__
    assert file is not None
    found: dict[str, str] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
            continue
        for statement, below in zip(node.body, node.body[1:], strict=False):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    found[name] = " ".join(doc.split())
    return found


def flag_of(name: str) -> str:
    """The flag of a field: `weight_decay` -> `--weight-decay`."""
    return "--" + name.replace("_", "-")


def refuse(name: str, value: Any, allowed: str) -> ConfigError:
    """The error of a value that cannot be.

    Args:
        name: of the field.
        value: as given; a list is shown as it is written on the command line.
        allowed: what may be given instead and what to do next, as sentences.
    """
    if isinstance(value, list):
        value = ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return ConfigError(f"{flag_of(name)} {repr(value) if value == '' else value}: {allowed}")
