"""Completion in bash, zsh and fish: `litscope completion SHELL` prints what turns it on; argcomplete does the rest.

The shell asks by starting litscope with `_ARGCOMPLETE` set. Each command then builds its parser as always, and `parse`
and `recipe_line` hand it to `offer` instead of reading the line with it: what is offered is what is taken. No torch,
numpy or Arrow is imported on the way, for a person waits.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from litscope.commands.line import Command, make_parser, parse, show_json, write
from litscope.errors import LitscopeError
from litscope.rundir import RunDir

if TYPE_CHECKING:
    from litscope.config.options import Option

SHELLS = ("bash", "zsh", "fish")

Completer = Callable[..., Iterable[str]]
"""What argcomplete asks, with keywords: the `prefix` that is typed, and more that is not needed here."""


def completion(argv: list[str]) -> int:
    """Print the lines that turn on completion in a shell."""
    parser = make_parser(completion)
    parser.add_argument("shell", choices=SHELLS, help='for bash and zsh: eval "$(litscope completion SHELL)"')
    given, as_json = parse(parser, argv)
    from argcomplete.shell_integration import shellcode

    code = shellcode(["litscope"], shell=given["shell"])
    if as_json:
        show_json({"shell": given["shell"], "code": code}, sys.stdout)
    else:
        write(code)
    return 0


def answer_shell(commands: Mapping[str, Command]) -> NoReturn:
    """Answer a shell that asks what can come next: commands, or what the command that is typed takes.

    Raises:
        SystemExit: when it is answered.
    """
    words = _typed()[1:]
    if words and words[0] in commands:
        with suppress(LitscopeError):
            commands[words[0]](words[1:])
        sys.exit(1)  # the line is wrong before the cursor
    parser = argparse.ArgumentParser(prog="litscope", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version")
    below = parser.add_subparsers()
    for name, command in commands.items():
        below.add_parser(name, help=(command.__doc__ or "").splitlines()[0], add_help=False)
    offer(parser, words)


def offer(parser: argparse.ArgumentParser, argv: Sequence[str]) -> NoReturn:
    """Answer the shell with what a parser takes next.

    Args:
        parser: all arguments are added.
        argv: the words before the cursor that are the parser's.

    Raises:
        SystemExit: when it is answered.
    """
    import argcomplete

    for action in parser._actions:
        completer = _completer(action)
        if completer is not None and not hasattr(action, "completer"):
            action.completer = completer  # type: ignore[attr-defined]  # argcomplete looks for it there
    os.environ["_ARGCOMPLETE"] = str(len(_typed()) - len(argv))  # the first word of those that it is to look at
    argcomplete.autocomplete(parser, always_complete_options=False, exit_method=sys.exit)
    sys.exit(1)


def offer_recipe(argv: Sequence[str], more: Sequence[Option]) -> NoReturn:
    """Answer the shell with SOURCE and the flags of a command that takes a recipe; arguments as `recipe_line`."""
    from litscope.config.fields import by_name
    from litscope.config.options import OPTIONS, add_flags

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(parser, (*OPTIONS, *more))
    options = {option.name: option for option in (*OPTIONS, *more)}
    for action in parser._actions:
        field, option = by_name().get(action.dest), options.get(action.dest)
        action.help = field.doc if field else option.doc if option else action.help
        if field is not None and field.choices:
            action.completer = _words(*field.choices)  # type: ignore[attr-defined]
        elif field is not None and not {int, float}.isdisjoint(field.parts):
            action.completer = _words()  # type: ignore[attr-defined]
    offer(parser, argv)


def _completer(action: argparse.Action) -> Completer | None:
    """What can stand for an argument; None where argparse's choices or the files here are right."""
    if action.choices is not None or action.nargs == 0:
        return None
    if action.type in (int, float):
        return _words()
    by_dest: dict[str, Completer] = {
        "arch": _architectures,
        "pattern": _architectures,
        "source": _data_sets,
        "dataset": _data_sets,
        "resume": _or_files(_runs, _words("last", "best")),
        "checkpoint": _or_files(_words("last", "best")),
        "actions": _or_files(_runs),
        "accelerator": _words("auto", "cpu", "gpu", "mps"),
        "optimizer": _optimizers,
        "monitor": _monitors,
        "metric": _monitors,
        "pruner": _words("median", "none"),
        "preset": _words("single_gpu", "multi_gpu_ddp"),
    }
    if action.dest in by_dest:
        return by_dest[action.dest]
    named = str(action.metavar)
    if named == "[RUN] NAME=VALUE":
        return _any(_runs, _settings)
    if named == "[RUN] [schedule]":
        return _any(_runs, _words("schedule"))
    return _runs if "RUN" in named else None


def _typed() -> list[str]:
    """The words before the one that is being typed, `litscope` among them."""
    from argcomplete.lexers import split_line

    return list(split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3])


# ---- what can stand for an argument ----------------------------------------------------------


def _words(*words: str) -> Completer:
    return lambda **_: words


def _any(*completers: Completer) -> Completer:
    return lambda **asked: [word for completer in completers for word in completer(**asked)]


def _or_files(*completers: Completer) -> Completer:
    from argcomplete.completers import FilesCompleter

    return _any(*completers, FilesCompleter())


def _runs(prefix: str, **_: object) -> list[str]:
    """Runs by their folder, or by their name below runs/; and the folders in which others may lie."""
    from litscope.runs import list_runs

    parent = prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
    found = [] if parent else [run.path.name for run in list_runs()]
    with suppress(OSError):
        for entry in sorted(Path(parent).expanduser().iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                found.append(f"{parent}{entry.name}{'' if RunDir(entry).is_run() else '/'}")
    return found


def _data_sets(**asked: object) -> Iterable[str]:
    from litscope.data.sources.names import NAMES

    return _or_files(_words(*NAMES))(**asked)


def _architectures(**_: object) -> Iterable[str]:
    from litscope.models.networks.names import architectures

    return architectures()


def _optimizers(**_: object) -> Iterable[str]:
    from litscope.defaults import OPTIMIZERS_OF_TORCH

    return OPTIMIZERS_OF_TORCH


def _monitors(**_: object) -> Iterable[str]:
    from litscope.defaults import METRICS

    return [f"{split}/{name}" for split in ("val", "train") for name in METRICS]


def _settings(**_: object) -> Iterable[str]:
    from litscope.ledger.journal.verbs import SETTINGS

    return [f"{name}=" for name in SETTINGS]
