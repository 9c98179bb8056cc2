"""`litscope fit --help`: one entry per flag, in the groups of the recipe, as wide as the terminal.

Drawn here instead of by the parser, so that aliases, choices and defaults stand in one order and
no parser is built for it.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from litscope.config.fields import GROUPS, fields, group_doc
from litscope.config.options import OPTIONS, Option
from litscope.config.section import Field

SOURCES = "a name (digits, mnist, cifar10, ...), a folder, or a CSV, Parquet or .npz file (see --dataset)"

LEFT = 30
"""Width of the column of flags; a longer one stands on a line of its own."""


def help_text(command: str, about: str, more: Sequence[Option] = (), width: int | None = None) -> str:
    """The help of a command that takes a recipe.

    Args:
        command: "fit".
        about: what it does, in a sentence or two.
        more: the command's own options.
        width: columns; default: those of the terminal, 120 at most.
    """
    width = width or min(shutil.get_terminal_size().columns, 120)
    lines = [
        f"usage: litscope {command} [SOURCE] [flags]",
        "",
        *textwrap.wrap(about, width),
        "",
        *textwrap.wrap(
            f"SOURCE is {SOURCES}. Switches have a --no- form (--cache, --no-cache). "
            "Each flag is a YAML key too, training.lr for --lr: see --print-config.",
            width,
        ),
        "",
        "this command",
        *_entries((_option(o) for o in (*more, *OPTIONS)), width),
    ]
    for group in GROUPS:
        lines += ["", *textwrap.wrap(f"{group}: {group_doc(group)}", width)]
        lines += _entries((_field(f) for f in fields() if f.group == group), width)
    return "\n".join(lines) + "\n"


def _field(field: Field) -> tuple[str, str]:
    """Flag and value on the left; meaning, choices, default and aliases on the right."""
    words = {int: "N", float: "X"}
    value = "" if field.is_bool else " " + words.get(field.parts[-1], "TEXT" if not field.choices else "WORD")
    right = field.doc
    if field.choices:
        right += f" One of: {', '.join(field.choices)}."
    if "Default:" not in right and field.default is not None and not (field.is_bool and not field.default):
        shown = ", ".join(field.default) if field.is_list else str(field.default).replace("True", "on")
        right += f" Default: {shown}." if shown else ""
    others = [*field.flags[1:], *(["--no-augment"] if field.key == "data.augment" else [])]
    if others:
        right += f" Also {', '.join(others)}."
    return field.flag + value, right


def _option(option: Option) -> tuple[str, str]:
    words = {bool: "", int: " N", float: " X", str: " TEXT"}
    default = f" Default: {option.default}." if option.default not in (None, False) else ""
    return ", ".join(option.flags) + words[option.type], option.doc + default


def _entries(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(width - LEFT, 30), break_on_hyphens=False)
        if len(left) + 4 > LEFT:
            lines.append(f"  {left}")
        else:
            wrapped[0] = f"  {left}".ljust(LEFT) + wrapped[0]
            lines.append(wrapped.pop(0))
        lines += [" " * LEFT + line for line in wrapped]
    return lines
