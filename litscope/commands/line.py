"""What all commands share: the parser, the output, the recipe behind the flags.

Results go to standard output (with --json as one JSON document, `envelope`), everything else to standard error.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from litscope.addresses import hidden
from litscope.commands.envelope import current
from litscope.commands.places import require_data
from litscope.console import one_line, printable, say
from litscope.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from litscope.config.flags import Line
    from litscope.config.options import Option

Command = Callable[[list[str]], int]
"""Takes the words after the command's name, returns the exit code."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are ours, with close names for unknown flags, and a way for names like flags.

    Attributes:
        words: the line that is parsed.
    """

    words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Raise the error; argparse would end the process."""
        known = [flag for action in self._actions for flag in action.option_strings]
        options = self.words[: self.words.index("--")] if "--" in self.words else self.words
        unknown = [word for word in options if word.startswith("-") and word.partition("=")[0] not in known]
        hint = did_you_mean(unknown[0], known) if unknown and message.startswith("unrecognized") else ""
        if unknown and not hint and re.match(r"-[^-]", unknown[0]):
            hint = f" A name that begins with a hyphen goes after --, at the end: {self.prog} ... -- {unknown[0]}."
        raise ConfigError(f"{message}.{hint} See `{self.prog} --help`.")


def is_shell_asking() -> bool:
    """Whether a shell started this process to learn how a line can go on (`completion`)."""
    return "_ARGCOMPLETE" in os.environ


def name_of(command: Command) -> str:
    """A command's name: `lr_find` is called lr-find, `set_` set."""
    return command.__name__.rstrip("_").replace("_", "-")


def make_parser(command: Command) -> Parser:
    """A parser that is named and described by the command's function, with --json."""
    parser = Parser(prog=f"litscope {name_of(command)}", description=command.__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser


def takes(action: argparse.Action, *words: str) -> None:
    """Say which words a shell may offer for an argument whose values are checked elsewhere."""
    action.completer = lambda **_: words  # type: ignore[attr-defined]  # argcomplete looks for it there


def add_trained_run(parser: Parser, or_checkpoint: bool = False) -> None:
    """What `evaluate` and `predict` share.

    Args:
        or_checkpoint: a checkpoint file will do, wherever it lies.
    """
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder" + (", or a checkpoint file" if or_checkpoint else "")
    )
    parser.add_argument("--checkpoint", default="best", help="best, last or a file (default: best)")
    parser.add_argument("--dataset", help="where the data are now (default: where they were)")
    parser.add_argument("--data-dir", "--data-root", help="where named data sets are now")
    parser.add_argument("--image-root", metavar="DIR", help="the folder that relative paths in a list start from")
    parser.add_argument(
        "--channels",
        choices=("first", "last"),
        help="the axis of channels in .npz and .npy files (default: as in training)",
    )
    parser.add_argument("--batch-size", type=int, help="default: as in training")
    parser.add_argument("--num-workers", type=int, help="default: as in training")
    parser.add_argument("--accelerator", help="default: the best device here")
    parser.add_argument("--precision", help="default: as in training")


def add_raw(parser: Parser) -> None:
    """How `evaluate` and `predict` read what the network says."""
    parser.add_argument("--raw", action="store_true", help="as it is, whatever `litscope calibrate` has kept")
    parser.add_argument("--mc-dropout", type=int, metavar="T", help="the mean of T passes with dropout on")


def parse(parser: Parser, argv: list[str]) -> tuple[dict[str, Any], bool]:
    """The arguments by name, and whether --json was given. Positional words may come before or after options.

    Raises:
        SystemExit: where a shell asked what can come next, and is answered.
    """
    if is_shell_asking():
        from litscope.commands.completion import offer

        offer(parser, argv)
    parser.words = argv
    given = {name: _without_secrets(value) for name, value in vars(parser.parse_intermixed_args(argv)).items()}
    return given, given.pop("json")


def _without_secrets(value: Any) -> Any:
    """An argument with every address in it as it is shown; who opens a file has the whole one (`addresses`)."""
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return hidden(value) if isinstance(value, str) else value


def check_n(n: int | None) -> None:
    """Refuse a number of samples below 1.

    Raises:
        ConfigError: saying so.
    """
    if n is not None and n < 1:
        raise ConfigError(f"-n {n}: it is 1 or more.")


def recipe_line(command: Command, argv: list[str], more: Sequence[Option] = (), name: str | None = None) -> Line | None:
    """The parsed line of a command that takes a recipe; None if --help or --print-config was all.

    Args:
        command: the command's function; its docstring describes it.
        argv: the words after its name.
        more: options that only this command has.
        name: what the command is called, if not like the function.
    """
    if is_shell_asking():
        from litscope.commands.completion import offer_recipe

        offer_recipe(argv, more)
    if "-h" in argv or "--help" in argv:
        from litscope.config.help import help_text

        write(help_text(name or name_of(command), command.__doc__ or "", more))
        return None
    from litscope.config.flags import parse_line

    line = parse_line(argv, more)
    if line.options["print_config"]:
        if line.options["json"]:
            show_json(line.recipe.to_dict(), sys.stdout)
            return None
        from litscope.config.yamlfile import dump

        write(dump(line.recipe))
        return None
    return line


def require_source(line: Line, or_resume: bool = False) -> None:
    """Refuse a line that names no data, or data and decisions that are not there.

    Raises:
        ConfigError, DataError, RunError: saying what may be given.
    """
    from litscope.config.help import SOURCES

    if line.recipe.data.origin is None and not (or_resume and line.recipe.training.resume):
        resume = " To go on with a run: --resume RUN, or --resume last." if or_resume else ""
        raise ConfigError(f"No data given. SOURCE is {SOURCES}.{resume} To try it out: litscope demo")
    require_data(line.recipe)


def answer(
    command: Command,
    argv: list[str],
    find: Callable[[Line], Any],
    more: Sequence[Option] = (),
    name: str | None = None,
) -> int:
    """Run a command that takes SOURCE and a recipe, and print what it found; returns the exit code.

    Args:
        command, argv, more, name: as `recipe_line`.
        find: does the work; its result has `lines()` and `to_dict()`.
    """
    line = recipe_line(command, argv, more, name)
    if line is None:
        return 0
    require_source(line)
    with stdout_for_result() as out:
        found = find(line)
    show(found, line.options["json"], out)
    return 0


@contextmanager
def stdout_for_result() -> Iterator[TextIO]:
    """Keep standard output for the result: what libraries print meanwhile goes to standard error."""
    out = sys.stdout
    with redirect_stdout(sys.stderr):
        yield out


def show(found: Any, as_json: bool, out: TextIO, run: object = None) -> None:
    """Print a result that has `lines()` for people and `to_dict()` for programs.

    Args:
        run: the folder of the run that the command was about, if it was about one.
    """
    if as_json:
        show_json(found.to_dict(), out, run)
    else:
        write_lines(found.lines(), out)


def show_json(result: Any, out: TextIO, run: object = None) -> None:
    """Print the JSON document of this command; arguments as `Envelope.show`."""
    current().show(result, out, run)


def write(text: str, out: TextIO | None = None) -> None:
    """Print to standard output, or to `out`, what a person can read (`printable`), ending in exactly one newline."""
    print(printable(text).rstrip("\n"), file=out or sys.stdout)


def write_lines(lines: Iterable[str], out: TextIO | None = None) -> None:
    """As `write`, of lines that are each shown as one (`one_line`)."""
    print("\n".join(map(one_line, lines)).rstrip("\n"), file=out or sys.stdout)


def save_csv(found: pa.Table, path: Path) -> None:
    """Write a table of samples as CSV, whole or not at all, and say so."""
    from litscope.ledger.encode import csv_lines
    from litscope.rundir import whole_file

    with whole_file(path) as file:
        file.writelines(text.encode() for text in csv_lines(found))
    say(f"{found.num_rows:,} samples: {path}")
