"""The flags of a command that takes a recipe: one or more for each field, and the options around them.

Neither YAML nor jsonargparse is imported: help and completion in shells are read off here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litscope.config.fields import fields
from litscope.config.section import Field


@dataclass(frozen=True)
class Option:
    """A flag of a command that is not a field of the recipe.

    Attributes:
        flags: ("--json",).
        doc: one line for the help.
        type: int, float or str; bool for a flag without a value.
        default: what it is without the flag.
        repeats: it may be given several times; its value is a list.
    """

    flags: tuple[str, ...]
    doc: str
    type: type = str
    default: Any = None
    repeats: bool = False

    @property
    def name(self) -> str:
        """Its name as an attribute: `print_config`."""
        return self.flags[0].lstrip("-").replace("-", "_")


OPTIONS = (
    Option(("--config", "-c"), "A YAML file of settings; may be given several times, later ones win.", repeats=True),
    Option(("--preset",), "A block of lightning_presets: in a file, or single_gpu, multi_gpu_ddp."),
    Option(("--print-config",), "Print all settings as YAML with comments, and stop.", bool, False),
    Option(("--json",), "Print the result as one JSON document on standard output.", bool, False),
    Option(("--help", "-h"), "Show this help, and stop.", bool, False),
)
"""Flags that every command with a recipe has besides those of the fields."""


def all_flags(field: Field) -> tuple[str, ...]:
    """Every flag of a field, the --no- ones too."""
    if field.is_bool:
        return (*field.flags, *("--no-" + flag.removeprefix("--") for flag in field.flags))
    return (*field.flags, "--no-augment") if field.key == "data.augment" else field.flags


def add_flags(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add SOURCE, a flag for each field and the options; values are taken as texts."""
    parser.add_argument("source", nargs="?")
    for field in fields():
        if field.is_bool:
            parser.add_argument(*field.flags, dest=field.name, action=argparse.BooleanOptionalAction)
        elif field.is_list:
            several = "+" if not field.choices else 1  # `--logger csv SOURCE` must leave SOURCE alone
            parser.add_argument(*field.flags, dest=field.name, action="append", nargs=several)
        else:
            parser.add_argument(*field.flags, dest=field.name)
    parser.add_argument("--no-augment", dest="augment", action="store_const", const="none")
    for option in options:
        if option.type is bool:
            parser.add_argument(*option.flags, action="store_true")
        elif option.repeats:
            parser.add_argument(*option.flags, action="append")
        else:
            parser.add_argument(*option.flags, type=option.type)
