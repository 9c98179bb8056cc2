"""Flags, YAML files and keywords -> one checked `Recipe`.

From weak to strong: defaults, the recipe of the run that --resume names, `lightning:` blocks of
the files, --preset, the files' sections in the order of --config, flags. jsonargparse parses the
line; `presets.py` reads the files; `fields.py` gives every value its type.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import Any

from litscope.addresses import absolute
from litscope.config.chosen import outdated
from litscope.config.fields import GROUPS, by_key, by_name, fields, typed
from litscope.config.options import OPTIONS, Option, add_flags, all_flags
from litscope.config.presets import FileSettings, Layer, Setting, file_settings, preset
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_for, run_settings
from litscope.config.section import Field
from litscope.config.yamlfile import read
from litscope.defaults import Direction
from litscope.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Line:
    """A parsed command line: the recipe, and the options that are not part of it, by name."""

    recipe: Recipe
    options: dict[str, Any]


_PLACES = ("data.dataset", "data.train_urls", "data.val_urls", "data.test_urls")
_URLS = ("train_urls", "val_urls", "test_urls", "use_webdataset")
_ONLY_FOR_TRAINING = ("model.weights", "training.class_weights")


def parse(argv: Sequence[str]) -> Recipe:
    """The recipe of a command line, as `litscope fit` understands it.

    Raises:
        ConfigError: naming the flag or the YAML key, its value, and what is allowed.
        RunError: if --resume names nothing that exists.
    """
    return parse_line(argv).recipe


def parse_line(argv: Sequence[str], more: Sequence[Option] = ()) -> Line:
    """The recipe of a command line, with the options around it.

    Args:
        argv: the words after the command.
        more: options of this command alone.

    Raises:
        ConfigError, RunError: as `parse`.
    """
    options = (*OPTIONS, *more)
    given = vars(_parse_words(argv, options))
    values = {o.name: given.pop(o.name, [] if o.repeats else o.default) for o in options}
    source = given.pop("source", None)
    if source is not None:
        if given.get("dataset", source) != source:
            raise ConfigError(f"SOURCE {source} and --dataset {given['dataset']} name two data sets; give one.")
        given["dataset"] = source
    layer = {}
    for name, value in given.items():
        field = by_name()[name]
        value = ",".join(word for words in value for word in words) if field.is_list else value
        layer[field.key] = Setting(typed(field, value, field.flag), field.flag)
    return Line(build(layer, values["config"], values["preset"]), values)


def recipe_from_keywords(
    *,
    config: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    preset: str | None = None,
    metrics: Mapping[str, Direction | None] | None = None,
    **flags: Any,
) -> Recipe:
    """The recipe of a call: every flag and alias is a keyword, with underscores.

    Args:
        config: YAML files, as --config.
        preset: as --preset.
        metrics: as `Recipe.metrics`.
        flags: `lr=1e-3`, `arch="resnet18"`, `no_augment=True`, ...

    Raises:
        ConfigError, RunError: as `parse`.
    """
    layer: Layer = {}
    for name, given in flags.items():
        field, value = _keyword(name, given)
        if field.key in layer:
            raise ConfigError(f"{name}= is another name of {field.name}=, which is given too; give one.")
        layer[field.key] = Setting(typed(field, value, f"{name}="), f"{name}=")
    files = [config] if isinstance(config, str | os.PathLike) else config
    return build(layer, [os.fspath(file) for file in files], preset, metrics or {})


def recipe_of_run(run: Path) -> Recipe:
    """The recipe of a run, without the files that only its training needed: they may be gone."""
    settings = run_settings(run)
    sections = {key: value for key, value in settings.sections.items() if key not in _ONLY_FOR_TRAINING}
    return build(sections, metrics=settings.metrics)


def build(
    flags: Layer,
    configs: Iterable[str | Path] = (),
    preset_name: str | None = None,
    metrics: Mapping[str, Direction | None] = MappingProxyType({}),
) -> Recipe:
    """Put the layers over each other and check the result.

    Args:
        metrics: as `Recipe.metrics`, over those that files and the run that goes on name.

    Raises:
        ConfigError, RunError: as `parse`.
    """
    files = [file_settings(read(path)) for path in configs]
    layers = [file.lightning for file in files]
    layers += [preset(preset_name, files)] if preset_name is not None else []
    layers += [file.sections for file in files]
    if _value(flags, "training.early_stopping") is False:
        flags = {**flags, "training.patience": Setting(None, flags["training.early_stopping"].where)}
    given: Layer = reduce(_over, [*layers, flags], {})
    resumed = _resumed_settings(given)
    settings = _over(resumed.sections, given, goes_on=True)
    known = reduce(or_, [resumed.metrics, *(file.metrics for file in files), dict(metrics)])
    settings |= _implied(given, settings)
    chosen = frozenset(key for key, setting in settings.items() if setting.is_chosen)
    recipe = Recipe(**{group: _part(group, settings) for group in GROUPS}, chosen=chosen, metrics=known)
    try:
        recipe.check()
    except ConfigError as error:
        raise ConfigError(f"{error}{_origins(str(error), settings)}") from None
    return recipe


def reference_rows() -> list[tuple[str, str, str, str, str]]:
    """(flags, YAML key, values, default, meaning) of every field, for the table in the docs."""
    rows = []
    for field in fields():
        flags = ", ".join(all_flags(field))
        values = " \\| ".join(field.choices) if field.choices else field.expected
        rows.append((flags, field.key, values, _shown(field.default), field.doc))
    return rows


def _shown(default: Any) -> str:
    """A default as it is written in YAML; empty for None, whose meaning the docstring tells."""
    if isinstance(default, list):
        return ", ".join(default)
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _parse_words(argv: Sequence[str], options: Sequence[Option]) -> argparse.Namespace:
    """Split a command line by its flags; values stay texts."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    add_flags(parser, options)
    known = {flag for action in parser._actions for flag in action.option_strings}
    _check_names(argv, known)
    try:
        return parser.parse_args(list(argv), defaults=False)
    except ArgumentError as error:
        raise ConfigError(f"{error}. `litscope fit --help` shows all flags.") from None


def _check_names(argv: Sequence[str], known: set[str]) -> None:
    """Refuse unknown flags, with close ones."""
    for word in argv[: argv.index("--")] if "--" in argv else argv:
        name = word.split("=")[0]
        if word.startswith("--") and name not in known:
            raise ConfigError(f"{name} is not a flag.{did_you_mean(name, known)} `litscope fit --help` shows all.")


def _keyword(name: str, value: Any) -> tuple[Field, Any]:
    """The field of a keyword, and the value for it (`no_x=True` is `x=False`)."""
    known = by_name()
    if name in known:
        return known[name], value
    field = known.get(name.removeprefix("no_"))
    if field is not None and isinstance(value, bool) and "--" + name.replace("_", "-") in all_flags(field):
        return field, not value
    raise ConfigError(f"{name}= is not a keyword.{did_you_mean(name, known)} They are the names of the flags.")


def _over(below: Layer, above: Layer, goes_on: bool = False) -> Layer:
    """Both layers, the upper one first, and what follows from the upper one.

    Weights take the place of pretrained. Patience turns early stopping on, and no early stopping puts patience off.
    What was chosen in the lower layer by another value than the upper one has is open again.

    Args:
        goes_on: the lower layer is the recipe of a run that goes on.
    """
    both = below | above
    for name, other, off in (("weights", "pretrained", False), ("pretrained", "weights", None)):
        asks = above.get(f"model.{name}")
        if asks is not None and asks.value and f"model.{other}" not in above and _value(below, f"model.{other}"):
            both[f"model.{other}"] = Setting(off, asks.where)
    patience, stopping = above.get("training.patience"), above.get("training.early_stopping")
    if stopping is not None and not stopping.value and patience is None:
        both["training.patience"] = Setting(None, stopping.where)
    elif stopping is None and patience is not None and patience.value is not None:
        both["training.early_stopping"] = Setting(True, patience.where)
    for name, others in (("dataset", _URLS), ("train_urls", ("dataset",))):  # of two names of data the upper one holds
        if _value(above, f"data.{name}") is not None and not any(f"data.{other}" in above for other in others):
            for key in (f"data.{other}" for other in others):
                both.pop(key, None)
    chosen = {key for key, setting in below.items() if setting.is_chosen and both[key] is setting}
    changed = {key for key, setting in both.items() if not _is_same(key, setting.value, below.get(key))}
    for key in outdated(chosen, changed, goes_on):
        del both[key]
    return both


def _is_same(key: str, value: Any, before: Setting | None) -> bool:
    """Whether a setting says what it said; a path may be written in another way."""
    then = by_key()[key].default if before is None else before.value
    if None not in (then, value):
        if key in ("data.data_dir", "model.weights"):
            then, value = Path(then).absolute(), Path(value).absolute()
        elif key in _PLACES:
            then, value = absolute(then), absolute(value)
    return bool(then == value)


def _implied(given: Layer, settings: Layer) -> Layer:
    """What goes without saying.

    Args:
        given: what was said here.
        settings: the same over those of the run that goes on.
    """
    implied: Layer = {}
    folder = given.get("data.data_dir")
    urls = _value(given, "data.train_urls")
    if urls is not None and "data.use_webdataset" not in settings:
        implied["data.use_webdataset"] = Setting(True, given["data.train_urls"].where)
    if folder is not None and "data.dataset" not in settings and _value(settings, "data.train_urls") is None:
        implied["data.dataset"] = Setting(folder.value, folder.where)
    of_wandb = [s for key, s in given.items() if key.startswith("logging.wandb_") and s.value]
    if of_wandb and "logging.use_wandb" not in given and _value(settings, "logging.wandb_mode") != "disabled":
        implied["logging.use_wandb"] = Setting(True, of_wandb[0].where)
    return implied


def _resumed_settings(settings: Layer) -> FileSettings:
    """The recipe of the run that `settings` resume; its sections are the lowest layer."""
    resume = _value(settings, "training.resume")
    if resume is None:
        return FileSettings()
    _, run = asked_for(resume, _value(settings, "logging.run_dir"), _value(settings, "logging.name"))
    return run_settings(run) if run is not None else FileSettings()


def _value(settings: Layer, key: str) -> Any:
    return settings[key].value if key in settings else None


def _part(group: str, settings: Layer) -> Any:
    """One dataclass of the recipe."""
    return GROUPS[group](**{f.name: settings[f.key].value for f in fields() if f.group == group and f.key in settings})


def _origins(message: str, settings: Layer) -> str:
    """Where the flags that a message names were set, if not on the command line."""
    origins = [
        f"{field.key} is set in {settings[field.key].where}"
        for field in fields()
        if field.key in settings and f"{field.flag} " in message and ", line " in settings[field.key].where
    ]
    return f" ({'; '.join(origins)})" if origins else ""
