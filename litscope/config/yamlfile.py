"""YAML files of settings: read with the line of every value, written with a comment on every field.

Read by the rules of YAML 1.2 where 1.1 surprises: `1e-3` is a number, `12:30:00` and `no` are
texts, a key may stand only once. Every mistake is a `ConfigError` with file and line.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from litscope.config.fields import fields, group_doc
from litscope.config.recipe import Recipe
from litscope.errors import ConfigError

CHOSEN = "chosen"
"""The section in which the recipe of a run says which of its values litscope chose."""

METRICS = "metrics"
"""The section in which the recipe of a run names the metrics that its caller brought."""

_MAX_DEPTH = 20

_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Entry:
    """One `key: value` of a file.

    Attributes:
        key: as written.
        value: a scalar, a list of scalars, or the entries of a mapping.
        text: the scalar as written ("007", "1e-3"); None for null, lists and mappings.
        where: "file.yaml, line 3".
    """

    key: str
    value: Any
    text: str | None
    where: str

    @property
    def is_mapping(self) -> bool:
        """Whether `value` is a tuple of entries."""
        return isinstance(self.value, tuple)


def read(path: str | Path) -> tuple[Entry, ...]:
    """The entries of a YAML file.

    Raises:
        ConfigError: with file and line, for a missing file, wrong syntax, a key given twice; for the recipe of a run
            that only its own script can build.
    """
    return read_text(text_of(path), str(path))


def text_of(path: str | Path) -> str:
    """The text of a configuration file. Errors as `read`."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.") from error


def read_text(text: str, name: str) -> tuple[Entry, ...]:
    """The entries of a configuration that messages call `name`. Errors as `read`."""
    entries = parse(text, name)
    if any(entry.key == "watch" for entry in entries):
        raise ConfigError(
            f"{name}: litscope.watch recorded this run. Its model and data are those of its own script, so this "
            "command cannot build them; run that script again instead."
        )
    return entries


def parse(text: str, name: str) -> tuple[Entry, ...]:
    """The entries of a YAML text that messages call `name`. Errors as `read`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return ()
        if not isinstance(node, yaml.MappingNode) or node.tag not in _PLAIN:
            raise ConfigError(f"{name}, line {_line(node)}: settings are `key: value` pairs below a section.")
        return tuple(_entries(node, name, loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem or error.context}.") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        letter = f"the character U+{error.character:04X}"
        raise ConfigError(f"{name}, line {number}: not valid YAML: {letter} is not allowed in it.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}.") from error
    finally:
        if loader is not None:
            loader.dispose()


def _entries(node: yaml.MappingNode, name: str, loader: _Loader) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        where = f"{name}, line {_line(key_node)}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key must be a word.")
        if isinstance(value_node, yaml.CollectionNode) and value_node.tag not in _PLAIN:
            raise ConfigError(f"{where}: {value_node.tag} is not read here; write a mapping or a list without a tag.")
        key = str(key_node.value)
        if key in seen:
            raise ConfigError(f"{where}: {key!r} stands here for the second time (first in line {seen[key]}).")
        seen[key] = _line(key_node)
        if isinstance(value_node, yaml.MappingNode):
            yield Entry(key, tuple(_entries(value_node, name, loader)), None, where)
        elif isinstance(value_node, yaml.SequenceNode):
            yield Entry(key, [_item(child, where, loader) for child in value_node.value], None, where)
        else:
            value = _scalar_value(value_node, where, loader)
            yield Entry(key, value, None if value is None else str(value_node.value), where)


def _item(node: yaml.Node, where: str, loader: _Loader) -> str:
    """An item of a list, as text."""
    if not isinstance(node, yaml.ScalarNode) or _scalar_value(node, where, loader) is None:
        raise ConfigError(f"{where}: the items of a list must be words or numbers.")
    return str(node.value)


def _scalar_value(node: yaml.Node, where: str, loader: _Loader) -> Any:
    """The value of a word or number; one whose tag does not fit it (`!!int two`) is an error of the file."""
    try:
        value = loader.construct_object(node)
        str(node.value).encode()  # a half of a surrogate pair is no text
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        tag = str(node.tag).rpartition(":")[2]
        raise ConfigError(f"{where}: {str(node.value)[:80]!r} cannot be read as {tag}.") from error
    return value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain scalars of YAML 1.2 (and its underscores in numbers left out).

    Settings are two levels deep. What is nested much deeper, or repeats a list or mapping by an alias (which may hold
    itself, or grow without end), is an error with its line before it is built.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, with those below it."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(problem=f"nested more than {_MAX_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and not isinstance(node, yaml.ScalarNode):
            problem = "an alias (*name) may stand for a word or number only"
            raise yaml.composer.ComposerError(problem=problem, problem_mark=mark)
        return node

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own attribute


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes texts which only YAML 1.2 takes for numbers, such as 08."""


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))  # 010 is ten, not octal


CHOSEN_DOC = (
    "What litscope chose itself. It is chosen anew where something that it rests on is given otherwise. "
    "A value that is edited above counts as given."
)


METRICS_DOC = (
    "Metrics that a call in Python brought (litscope.fit(metrics=...)), and whether less (min) or more (max) of each "
    "is better. They are measured where such a call brings them again."
)


def dump(recipe: Recipe) -> str:
    """A recipe as YAML, each field below its docstring; `litscope fit --config` reads it back."""
    values = recipe.to_dict()
    lines = []
    group = ""
    for field in fields():
        if field.group != group:
            group = field.group
            lines += ["", *_comment(group_doc(group), ""), f"{group}:"]
        allowed = f" ({' | '.join(field.choices)})" if field.choices else ""
        lines += _comment(field.doc + allowed, "  ")
        lines.append("  " + _scalar(field.name, values[group][field.name]))
    if recipe.chosen:
        lines += ["", *_comment(CHOSEN_DOC, ""), f"{CHOSEN}:"]
        lines += [f"  {_scalar(f.key, values[f.group][f.name])}" for f in fields() if f.key in recipe.chosen]
    if recipe.metrics:
        lines += ["", *_comment(METRICS_DOC, ""), f"{METRICS}:"]
        lines += [f"  {_scalar(name, best)}" for name, best in recipe.metrics.items()]
    return "\n".join(lines).lstrip() + "\n"


@cache
def _comment(text: str, indent: str) -> tuple[str, ...]:
    return tuple(textwrap.wrap(text, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "))


def _scalar(name: str, value: Any) -> str:
    """`name: value` on one line: a flow mapping without its braces."""
    if value is None or isinstance(value, bool | int):  # most of them; PyYAML writes the same, in 0.3 ms
        return f"{name}: {json.dumps(value)}"
    if isinstance(value, float):
        return _number(name, repr(value))
    return _word(name, value) if isinstance(value, str) else f"{name}: []" if value == [] else _flow(name, value)


@lru_cache(maxsize=1024)
def _word(name: str, value: str) -> str:
    """`name: value` of a text, which is mostly that of the recipe before."""
    return _flow(name, value)


@lru_cache(maxsize=1024)
def _number(name: str, value: str) -> str:
    return _flow(name, float(value))


def _flow(name: str, value: Any) -> str:
    # Line breaks of Unicode (U+0085, U+2028) that PyYAML writes as they are do not come back: escape them.
    is_printable = "".join(map(str, value) if isinstance(value, list) else str(value)).isprintable()
    text = yaml.dump(
        {name: value}, None, _Dumper, default_flow_style=True, allow_unicode=is_printable, width=sys.maxsize
    )
    return text.strip()[1:-1]
