"""A YAML file as settings: its sections, its `lightning:` block, and the presets it defines.

    model: {arch: resnet18}          sections, by the names and aliases of the flags; a key is understood in any
    lightning: {max_epochs: 10}      Lightning's own words, for files that speak to Lightning
    lightning_presets:               blocks of the same kind, one of them chosen by --preset
      two_gpus: {accelerator: gpu, devices: 2, strategy: ddp}

From weak to strong: defaults, `lightning:` blocks, the chosen preset, sections (later files over
earlier ones), flags. The block stands below the preset because a preset is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from litscope.config.fields import GROUPS, by_key, by_name, typed
from litscope.config.section import Field
from litscope.config.yamlfile import CHOSEN, METRICS, Entry
from litscope.defaults import Direction
from litscope.errors import ConfigError, did_you_mean

BUILT_IN_PRESETS: dict[str, dict[str, Any]] = {
    "single_gpu": {"accelerator": "gpu", "devices": 1, "strategy": "auto", "sync_batchnorm": False},
    "multi_gpu_ddp": {
        "accelerator": "gpu",
        "devices": "auto",
        "strategy": "ddp",
        "sync_batchnorm": True,
        "use_distributed_sampler": True,
    },
}
"""What --preset may name when no file defines it."""

LIGHTNING_WORDS = (
    "max_epochs",
    "max_steps",
    "max_time",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "sync_batchnorm",
    "use_distributed_sampler",
    "gradient_clip_val",
    "accumulate_grad_batches",
    "deterministic",
    "fast_dev_run",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "overfit_batches",
    "log_every_n_steps",
    "profiler",
)
"""What a `lightning:` block or a preset may hold: arguments of L.Trainer that are fields of ours."""


@dataclass(frozen=True)
class Setting:
    """A value of the right type, and where it came from ("--lr", "file.yaml, line 3")."""

    value: Any
    where: str
    is_chosen: bool = False
    """Nobody gave it: litscope chose it for a run, whose recipe this is."""

    def own(self) -> Setting:
        """The same, with a list of its own."""
        return replace(self, value=list(self.value)) if isinstance(self.value, list) else self


Layer = dict[str, Setting]
"""Settings by key (`training.lr`); a later layer goes over an earlier one."""


@dataclass
class FileSettings:
    """What one YAML file says."""

    sections: Layer = field(default_factory=dict)
    lightning: Layer = field(default_factory=dict)
    presets: dict[str, Layer] = field(default_factory=dict)
    metrics: dict[str, Direction | None] = field(default_factory=dict)


def file_settings(entries: Iterable[Entry]) -> FileSettings:
    """Sort the entries of a file into layers.

    Raises:
        ConfigError: for unknown keys and wrong values, with file and line.
    """
    settings, chosen = FileSettings(), None
    for entry in entries:
        name = _plain(entry.key)
        if name in GROUPS:
            _add(settings.sections, _mapping(entry), by_name(), name)
        elif name == CHOSEN:
            chosen = entry
        elif name == METRICS:
            settings.metrics |= {given.key: _direction(given) for given in _mapping(entry)}
        elif name == "lightning":
            _add(settings.lightning, _mapping(entry), _lightning_fields(), name)
        elif name == "lightning_presets":
            for preset in _mapping(entry):
                _add(settings.presets.setdefault(preset.key, {}), _mapping(preset), _lightning_fields(), preset.key)
        else:
            raise ConfigError(f"{entry.where}: {_unknown_section(entry.key)}")
    if chosen is not None:
        _mark_chosen(settings.sections, _mapping(chosen))
    return settings


def preset(name: str, files: Iterable[FileSettings]) -> Layer:
    """The layer of a preset: from the last file that defines it, else the built-in one.

    Raises:
        ConfigError: if there is none of this name.
    """
    defined: dict[str, Layer] = {}
    for file in files:
        defined |= file.presets
    if name in defined:
        return defined[name]
    if name not in BUILT_IN_PRESETS:
        known = sorted({*defined, *BUILT_IN_PRESETS})
        raise ConfigError(f"--preset {name}: no such preset.{did_you_mean(name, known)} There are: {', '.join(known)}.")
    words = _lightning_fields()
    where = f"preset {name}"
    return {words[w].key: Setting(typed(words[w], v, where), where) for w, v in BUILT_IN_PRESETS[name].items()}


def _add(layer: Layer, entries: Iterable[Entry], known: dict[str, Field], section: str) -> None:
    """Put the entries of one mapping into a layer."""
    for entry in entries:
        name = _plain(entry.key)
        if name not in known:
            raise ConfigError(f"{entry.where}: {_unknown_key(entry.key, section, known)}")
        field = known[name]
        if field.key in layer:
            given = f"{section}.{entry.key}"
            twice = "is set" if given == field.key else f"is another name of {field.key}, which is set"
            raise ConfigError(
                f"{entry.where}: {given} {twice} already ({layer[field.key].where}). Keep one of the two."
            )
        if entry.is_mapping:
            raise ConfigError(f"{entry.where}: {section}.{entry.key} takes {field.expected}, not a mapping.")
        value = entry.text if field.is_text and entry.text is not None else entry.value
        written = entry.text if isinstance(value, float) else None
        layer[field.key] = Setting(typed(field, value, f"{entry.where}: {section}.{entry.key}", written), entry.where)


def _mark_chosen(layer: Layer, entries: Iterable[Entry]) -> None:
    """Mark the values that litscope chose. One that is another by now was edited: somebody gave it."""
    for entry in entries:
        field, setting = by_key().get(entry.key), layer.get(entry.key)
        if field is None:
            raise ConfigError(f"{entry.where}: {CHOSEN}.{entry.key} is not a setting.")
        value = entry.text if field.is_text and entry.text is not None else entry.value
        if setting is not None and typed(field, value, entry.where) == setting.value:
            layer[entry.key] = replace(setting, is_chosen=True)


def _direction(entry: Entry) -> Direction | None:
    """What the recipe of a run says of a metric of the caller's."""
    if entry.value not in ("min", "max", None):
        raise ConfigError(f"{entry.where}: {METRICS}.{entry.key} is min, max or null.")
    value: Direction | None = entry.value
    return value


def _mapping(entry: Entry) -> tuple[Entry, ...]:
    """The entries below a key; nothing below it is an empty mapping."""
    if entry.value is None:
        return ()
    if not entry.is_mapping:
        raise ConfigError(f"{entry.where}: {entry.key} is a section with keys below it, not a value.")
    return tuple(entry.value)


def _lightning_fields() -> dict[str, Field]:
    return {word: by_name()[word] for word in LIGHTNING_WORDS}


def _unknown_section(key: str) -> str:
    """Why `key` cannot stand at the top of a file, and what can."""
    name = _plain(key)
    if name in by_name():
        group = by_name()[name].group
        return f"{key!r} does not stand at the top level; write it below {group}: ({group}.{name})."
    sections = [*GROUPS, "lightning", "lightning_presets"]
    return f"{key!r} is not a section.{did_you_mean(name, sections)} Sections: {', '.join(sections)}."


def _unknown_key(key: str, section: str, known: dict[str, Field]) -> str:
    """Why `key` cannot stand in a section, and what can."""
    name = _plain(key)
    elsewhere = by_name().get(name)
    if elsewhere is not None:
        return f"{section}.{key} is not a key; {key} stands in {elsewhere.group}: ({elsewhere.group}.{name})."
    of_section = [n for n, field in known.items() if field.group == section] or known
    close = did_you_mean(name, of_section) or did_you_mean(name, by_name())
    return f"{section}.{key} is not a key.{close} `litscope fit --print-config` shows all of them."


def _plain(key: str) -> str:
    return key.replace("-", "_")
