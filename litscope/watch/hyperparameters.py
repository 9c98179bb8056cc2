"""Hyperparameters: a dict that follows its YAML file while a script runs."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from litscope.console import warn
from litscope.errors import ConfigError


class Hyperparameters(dict[str, Any]):
    """Values of a script. Whoever reads one sees what the file holds now.

    Args:
        source: a mapping, whose values are copied, or the path of a YAML file.
        defaults: values for what `source` does not have; mappings are merged.
        poll_s: seconds between two looks at the file.

    Raises:
        ConfigError: if the file cannot be read, or holds no mapping.
    """

    def __init__(self, source: Any, defaults: Mapping[str, Any], poll_s: float) -> None:
        super().__init__()
        self._path = None if isinstance(source, Mapping) else Path(source)
        self._defaults = defaults
        self._poll_s = poll_s
        self._next = time.monotonic() + poll_s
        self._changed_at = self._path.stat().st_mtime_ns if self._path is not None and self._path.exists() else 0
        _merge(self, defaults)
        _merge(self, source if self._path is None else _read(self._path))

    def __getitem__(self, name: str) -> Any:
        self.refresh()
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any dict."""
        self.refresh()
        return super().get(name, default)

    def refresh(self) -> None:
        """Take over what changed in the file, at most every `poll_s` seconds. A broken file changes nothing."""
        now = time.monotonic()
        if self._path is None or now < self._next:
            return
        self._next = now + self._poll_s
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at == self._changed_at:
                return
            self._changed_at = changed_at
            found = _read(self._path)
        except (OSError, ConfigError) as error:
            warn(f"the hyperparameters stay as they are: {error}")
            return
        _merge(self, found)


def fill(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Put defaults into a dict where it has no value, and into its dicts."""
    for name, default in defaults.items():
        if name not in values:
            values[name] = copy.deepcopy(default)
        elif isinstance(values[name], dict) and isinstance(default, Mapping) and default is not values[name]:
            fill(values[name], default)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ConfigError(f"The hyperparameters {path} cannot be read: they are nested too deeply.") from None
    except (OSError, ValueError, LookupError, AttributeError, yaml.YAMLError) as error:  # `!!int two`, `!!bool maybe`
        raise ConfigError(f"The hyperparameters {path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no mapping of names to values, but {type(found).__name__}.")
    return found


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put values into a dict, and mappings into its mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = copy.deepcopy(value)
