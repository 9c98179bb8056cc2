"""Commands that take either a run or a data set on which nobody has trained: their flags about data and weights.

These are flags of `litscope fit` that such a command follows; what is about training alone, it does not know.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.console import say
from litscope.errors import ConfigError, RunError
from litscope.rundir import RunDir

if TYPE_CHECKING:
    from litscope.commands.line import Parser
    from litscope.config.recipe import Recipe

ABOUT_DATA = (
    *("data_dir", "download", "target", "group_column", "image_column", "image_root", "channels"),
    *("val_split", "test_split", "split_seed", "image_size", "batch_size", "num_workers"),
    *("cache", "cache_dir", "strict_data", "arch", "weights", "accelerator", "num_threads"),
)
"""Fields of a recipe that say which images there are, and which network looks at them how."""

ABOUT_RUNS = ("data_dir", "image_root", "channels", "batch_size", "num_workers", "accelerator")
"""Those of them that a run takes too: where its data are now, and what they are read with."""


def add_source_flags(parser: Parser, names: Sequence[str] = ABOUT_DATA, and_run: Sequence[str] = ()) -> None:
    """Flags of a recipe's fields, in a group of their own. What is not given is absent from the parsed arguments.

    Args:
        names: of the fields.
        and_run: those of them that a run takes too, where not all do.
    """
    from litscope.config.fields import by_name

    too = "; with a star: for RUN too" if and_run else ""
    group = parser.add_argument_group("for SOURCE" + too if names is ABOUT_DATA else "where the data are")
    for name in names:
        field = by_name()[name]
        star = "* " if name in and_run else ""
        doc = f"{star}{field.doc}".replace("%", "%%")
        kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if field.is_bool else {}
        if field.choices:
            kind["choices"] = field.choices
        elif not field.is_bool:
            kind["metavar"] = field.name.rpartition("_")[2].upper()
        group.add_argument(*field.flags, dest=field.name, default=argparse.SUPPRESS, help=doc, **kind)


def run_or_source(word: str) -> RunDir | str:
    """What is named: a run's folder, the name of a run below runs/, or a data set.

    A word without a slash that names both is the run, which is said.

    Raises:
        RunError, DataError: if it is none of them.
    """
    from litscope.data.sources.names import require_dataset
    from litscope.errors import DataError

    is_there = Path(word).expanduser().exists()
    if is_there and os.sep in word and not RunDir(word).is_run():
        require_dataset(word)
        return word
    try:
        run = RunDir.open(word)
    except RunError as error:
        try:
            require_dataset(word)
        except DataError as other:
            if is_there:
                raise
            raise RunError(f"{error} Nor is it a data set: {other}") from None
        return word
    if is_there and not RunDir(word).is_run():
        say(f"{word} is taken as the run {run.path}; for the data that lie here, write ./{word}")
    return run


def refuse(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Refuse flags of the other kind, of which the parser has a default that is None or False.

    Args:
        given: what was given, by field name.
        names: the fields that are of no use.
        why: which kind it is.

    Raises:
        ConfigError: naming the first of them.
    """
    refuse_given({name: value for name, value in given.items() if value not in (None, False)}, names, why)


def refuse_given(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """The same of flags that are absent unless they are given, as those of `add_source_flags`."""
    from litscope.config.section import flag_of

    for name in names:
        if name in given:
            raise ConfigError(f"{flag_of(name)} {why}. Leave it out.")


def source_recipe(source: str, given: dict[str, Any]) -> Recipe:
    """The recipe of a data set and the flags of `ABOUT_DATA` that were given.

    Raises:
        ConfigError: for a value that its flag does not allow.
    """
    from litscope.config.fields import by_name, typed
    from litscope.config.flags import build
    from litscope.config.presets import Setting

    layer = {"data.dataset": Setting(source, "SOURCE")}
    for name in ABOUT_DATA:
        if name in given:
            field = by_name()[name]
            layer[field.key] = Setting(typed(field, given[name], field.flag), field.flag)
    return build(layer)


def run_flags(given: dict[str, Any]) -> dict[str, Any]:
    """The flags of `ABOUT_RUNS` that were given, in their types.

    Raises:
        ConfigError: for a flag of `ABOUT_DATA` that is for a data set alone, or a value that a flag does not allow.
    """
    from litscope.config.fields import by_name, typed

    only = tuple(name for name in ABOUT_DATA if name not in ABOUT_RUNS)
    refuse_given(given, only, "is for a data set, and a run has decided it")
    fields = by_name()
    return {name: typed(fields[name], given[name], fields[name].flag) for name in ABOUT_RUNS if name in given}
