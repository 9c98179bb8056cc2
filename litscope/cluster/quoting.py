"""A word for a shell, and a value for an #SBATCH line, whatever stands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from litscope.errors import ConfigError

WIDTH = 100
"""Columns of a line of a job script, where words allow it."""

_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+=~^*\[\]-]+")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")


def expanding(text: str) -> str:
    """A word in which only `$NAME` and `${NAME}` mean something to the shell.

    >>> expanding("/scratch/$USER/a b")
    '"/scratch/$USER/a b"'
    """
    pieces, end = [], 0
    for found in _VARIABLE.finditer(text):
        pieces += [re.sub(r'(["\\$`])', r"\\\1", text[end : found.start()]), found[0]]
        end = found.end()
    pieces.append(re.sub(r'(["\\$`])', r"\\\1", text[end:]))
    return f'"{"".join(pieces)}"'


def command_lines(parts: Iterable[Sequence[str]]) -> str:
    """Words that are quoted already as one command: each part begins a line, and goes over as many as it needs."""
    lines: list[str] = []
    for part in filter(None, parts):
        lines.append(part[0])
        for word in part[1:]:
            if len(lines[-1]) + len(word) > WIDTH:
                lines.append(word)
            else:
                lines[-1] += f" {word}"
    return " \\\n    ".join(lines)


def quoted(words: Sequence[str]) -> list[str]:
    """Each as a shell takes it for one word that means only itself."""
    return [shlex.quote(word) for word in words]


def directive(name: str, value: object = None) -> str:
    """A line for sbatch: `#SBATCH --name=value`, or `#SBATCH --name`.

    Raises:
        ConfigError: for a value of several lines, which sbatch cannot read.
    """
    if value is None:
        return f"#SBATCH --{name}"
    text = str(value)
    if not text.isprintable():
        raise ConfigError(f"{name} {text!r}: an #SBATCH line holds no line break or control character.")
    if not _PLAIN.fullmatch(text):
        text = '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    return f"#SBATCH --{name}={text}"


def file_pattern(path: object) -> str:
    """A path for sbatch's --output, in which it looks for %j and the like.

    Raises:
        ConfigError: for a path with a backslash, which turns patterns off.
    """
    text = str(path)
    if not text.isprintable():
        raise ConfigError(f"{text!r}: a job's folder has no line break or control character in its path.")
    if "\\" in text:
        raise ConfigError(f"{text}: Slurm cannot log into a path with a backslash. Give another --run-dir.")
    return text.replace("%", "%%")
