"""The command line: one short function per command.

Imports stand inside the functions, so that `litscope --help` costs nothing. Results go to standard
output (with --json as one JSON document), everything else to standard error. Exit codes: 0, 2 for
a mistake of the user, 1 for a run that failed, 130 for one that was interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from litscope.console import say
from litscope.errors import ConfigError, LitscopeError, did_you_mean

if TYPE_CHECKING:
    from litscope.training.flags import Line, Option


UNUSABLE_PATH = {
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS
}  # fmt: skip
"""What the system says of a path that cannot be used: the user can give another. A full disk is another matter."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after `litscope`; default: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
    except LitscopeError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # the reader has gone (`litscope worst RUN | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written, a share that is gone
        if error.errno is None:  # not of the system: a defect
            raise
        say(f"error: {error.strerror}{f': {error.filename}' if error.filename else ''}")
        return 2 if error.errno in UNUSABLE_PATH else 1
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _print(_overview())
        return 0
    if words[0] == "--version":
        import litscope

        _print(f"litscope {litscope.__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS) or f" Commands: {', '.join(COMMANDS)}."
        raise ConfigError(f"{words[0]!r} is not a command.{hint} `litscope --help` describes them.")
    return COMMANDS[words[0]](words[1:])


def fit(argv: list[str]) -> int:
    """Train a classifier on SOURCE, with every sample on record."""
    line = _recipe_line("fit", argv)
    if line is None:
        return 0
    _require_source(line, or_resume=True)
    with _stdout_for_result() as out:
        from litscope.training.fit import run_recipe

        result = run_recipe(line.recipe)
    if line.options["json"]:
        _print_json(result.summary, out)
    return 0


def check(argv: list[str]) -> int:
    """Look at SOURCE, its labels and files, and at this machine, without training."""
    line = _recipe_line("check", argv)
    if line is None:
        return 0
    _require_source(line)
    with _stdout_for_result() as out:
        from litscope.training.checkup import check_up

        found = check_up(line.recipe)
    _result(found, line.options["json"], out)
    return 0


def lr_find(argv: list[str]) -> int:
    """Sweep the learning rate on SOURCE and suggest one."""
    from litscope.training.flags import Option

    more = (
        Option(("--num-sweeps",), "Sweeps, each with another order of the samples.", int, 3),
        Option(("--num-steps",), "Steps of each sweep.", int, 100),
        Option(("--lr-min",), "Where a sweep begins. Default: 1e-6, for sgd 1e-5.", float),
        Option(("--lr-max",), "Where it ends. Default: 1, for sgd 10.", float),
        Option(("--figure",), "The plot, a PNG file.", str, "lr-find.png"),
    )
    line = _recipe_line("lr-find", argv, more)
    if line is None:
        return 0
    _require_source(line)
    with _stdout_for_result() as out:
        from litscope.training.tune import lr_find as find

        found = find(line.recipe, **{option.name: line.options[option.name] for option in more})
    _result(found, line.options["json"], out)
    return 0


def batch_size_find(argv: list[str]) -> int:
    """Find the batch size that trains fastest on SOURCE and fits in memory."""
    from litscope.training.flags import Option

    more = (
        Option(("--start",), "The first size tried.", int, 8),
        Option(("--most",), "The largest size tried. Default: an eighth of the training samples.", int),
    )
    line = _recipe_line("batch-size-find", argv, more)
    if line is None:
        return 0
    _require_source(line)
    with _stdout_for_result() as out:
        from litscope.training.tune import batch_size_find as find

        found = find(line.recipe, **{option.name: line.options[option.name] for option in more})
    _result(found, line.options["json"], out)
    return 0


def evaluate(argv: list[str]) -> int:
    """Metrics of a run on one split."""
    parser = _parser("evaluate", evaluate)
    _add_run(parser)
    parser.add_argument("--split", default="test", help="train, val, test or all (default: test)")
    given, as_json = _parse(parser, argv)
    with _stdout_for_result() as out:
        from litscope.training.evaluate import evaluate as run_evaluate

        found = run_evaluate(given.pop("run"), **given)
    if as_json:
        _print_json(found, out)
        return 0
    say(f"{found['run']}: {found['num_samples']} samples of {found['split']}, {found['checkpoint']}")
    for name, value in found["metrics"].items():
        _print(f"{name:<20} {value:.4f}", out)
    return 0


def predict(argv: list[str]) -> int:
    """Predict images or tables that the run has never seen."""
    parser = _parser("predict", predict)
    _add_run(parser)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, folders or lists of images, or a table")
    parser.add_argument("--split", help="instead of PATH: unlabelled, train, val, test or all of the run's own data")
    parser.add_argument("--output", "-o", metavar="FILE", help="CSV or Parquet: key, prediction, probabilities")
    given, as_json = _parse(parser, argv)
    with _stdout_for_result() as out:
        from litscope.training.predict import predict as run_predict

        found = run_predict(given.pop("run"), given.pop("paths"), **given)
    _result(found, as_json, out)
    return 0


def models(argv: list[str]) -> int:
    """List the architectures that --arch may name."""
    parser = _parser("models", models)
    parser.add_argument("pattern", nargs="?", default="*", help="part of a name, or a pattern (resnet*)")
    given, as_json = _parse(parser, argv)
    with _stdout_for_result() as out:
        from litscope.models.backbones import list_models

        names = list_models(given["pattern"])
        if not names:
            hint = did_you_mean(given["pattern"], list_models())
            raise ConfigError(f"No architecture matches {given['pattern']!r}.{hint} `litscope models` lists all.")
    if as_json:
        _print_json(names, out)
    else:
        for name in names:
            _print(name, out)
    return 0


def worst(argv: list[str]) -> int:
    """The samples of a run that the model finds hardest."""
    parser = _parser("worst", worst)
    parser.add_argument("run_dir", metavar="RUN", help="a run's folder")
    parser.add_argument("-n", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="default: train")
    parser.add_argument("--by", choices=("loss", "margin", "p_label"), default="loss", help="default: loss")
    parser.add_argument("--last-epochs", type=int, default=5, metavar="N", help="epochs in the mean (default: 5)")
    parser.add_argument(
        "--sheet", metavar="PNG", default=True, help="the contact sheet (default: in the run's figures/)"
    )
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help="print the table only")
    given, as_json = _parse(parser, argv)
    for name in ("n", "last_epochs"):
        if given[name] < 1:
            raise ConfigError(f"{'-n' if name == 'n' else '--last-epochs'} {given[name]}: it is 1 or more.")
    with _stdout_for_result() as out:
        from litscope.training.worst import worst_samples

        found = worst_samples(**given)
    _result(found, as_json, out)
    for note in found.notes:
        say(note)
    if found.sheet is not None:
        say(f"contact sheet: {found.sheet}")
    return 0


def doctor(argv: list[str]) -> int:
    """Versions, devices, and what is missing with the command that installs it."""
    _, as_json = _parse(_parser("doctor", doctor), argv)
    with _stdout_for_result() as out:
        from litscope.doctor import examine, lines

        facts = examine()
    if as_json:
        _print_json(facts, out)
    else:
        _print("\n".join(lines(facts)), out)
    return 0


def demo(argv: list[str]) -> int:
    """Train on 1,797 real images of digits, offline, and show what to do next."""
    parser = _parser("demo", demo)
    parser.add_argument("--run-dir", metavar="DIR", help="the run's folder (default: runs/demo, runs/demo-2, ...)")
    given, as_json = _parse(parser, argv)
    with _stdout_for_result() as out:
        from litscope.demo import run_demo

        found = run_demo(given["run_dir"])
    _result(found, as_json, out)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": fit,
    "check": check,
    "evaluate": evaluate,
    "predict": predict,
    "lr-find": lr_find,
    "batch-size-find": batch_size_find,
    "models": models,
    "worst": worst,
    "doctor": doctor,
    "demo": demo,
}


def _overview() -> str:
    lines = [
        "usage: litscope COMMAND ...",
        "",
        "Train classifiers, and see every sample while they train.",
        "",
        "commands",
    ]
    lines += [f"  {name:<16} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "`litscope COMMAND --help` describes one. New here? `litscope demo`"])


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are ours, with close names for unknown flags."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        unknown = message.removeprefix("unrecognized arguments: ").split()
        known = [flag for action in self._actions for flag in action.option_strings]
        hint = did_you_mean(unknown[0], known) if message.startswith("unrecognized") else ""
        raise ConfigError(f"{message}.{hint} See `{self.prog} --help`.")


def _parser(command: str, function: Callable[[list[str]], int]) -> _Parser:
    parser = _Parser(prog=f"litscope {command}", description=function.__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser


def _add_run(parser: _Parser) -> None:
    """What `evaluate` and `predict` share."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--checkpoint", default="best", help="best, last or a file (default: best)")
    parser.add_argument("--dataset", help="where the data are now (default: where they were)")
    parser.add_argument("--data-dir", "--data-root", help="where named data sets are now")
    parser.add_argument("--batch-size", type=int, help="default: as in training")
    parser.add_argument("--num-workers", type=int, help="default: as in training")
    parser.add_argument("--accelerator", help="default: the best device here")
    parser.add_argument("--precision", help="default: as in training")


def _parse(parser: _Parser, argv: list[str]) -> tuple[dict[str, Any], bool]:
    """The arguments by name, and whether --json was given."""
    given = vars(parser.parse_args(argv))
    return given, given.pop("json")


def _recipe_line(command: str, argv: list[str], more: Sequence[Option] = ()) -> Line | None:
    """The parsed line of a command that takes a recipe; None if --help or --print-config was all."""
    if "-h" in argv or "--help" in argv:
        from litscope.training.help import help_text

        _print(help_text(command, COMMANDS[command].__doc__ or "", more))
        return None
    from litscope.training.flags import parse_line

    line = parse_line(argv, more)
    if line.options["print_config"]:
        from litscope.training.yamlfile import dump

        _print(dump(line.recipe))
        return None
    return line


def _require_source(line: Line, or_resume: bool = False) -> None:
    from litscope.training.help import SOURCES

    if line.recipe.data.dataset is None and not (or_resume and line.recipe.training.resume):
        resume = " To go on with a run: --resume RUN, or --resume last." if or_resume else ""
        raise ConfigError(f"No data given. SOURCE is {SOURCES}.{resume} To try it out: litscope demo")


@contextmanager
def _stdout_for_result() -> Iterator[TextIO]:
    """Keep standard output for the result: what libraries print inside goes to standard error."""
    out = sys.stdout
    with redirect_stdout(sys.stderr):
        yield out


def _result(found: Any, as_json: bool, out: TextIO) -> None:
    """Print a result that has `lines()` for people and `to_dict()` for programs."""
    if as_json:
        _print_json(found.to_dict(), out)
    else:
        _print("\n".join(found.lines()), out)


def _print_json(value: Any, out: TextIO) -> None:
    from litscope.rundir import json_text

    _print(json_text(value), out)


def _print(text: str, out: TextIO | None = None) -> None:
    print(text.rstrip("\n"), file=out or sys.stdout)
