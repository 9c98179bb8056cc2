"""The command line: finds the command, and turns what went wrong into a sentence and an exit code.

The commands are one short function each, in `commands/`; their imports stand inside the functions,
so that `litscope --help` costs nothing. Exit codes: 0, 2 for a mistake of the user, 1 for a run that
failed, 130 for one that was interrupted, 75 if a scheduler asked for it.
"""

from __future__ import annotations

import signal
import sys
import textwrap
from collections.abc import Sequence

from litscope.addresses import scrubbed
from litscope.commands import (
    act,
    ask,
    bench,
    completion,
    console,
    ensembles,
    experiment,
    extract,
    features,
    jobs,
    journal,
    launch,
    report,
    runs,
    search,
    shards,
    steer,
    studio,
    suspects,
    train,
)
from litscope.commands.envelope import answering, leave_stdout
from litscope.commands.line import Command, is_shell_asking, name_of, write
from litscope.console import say, screen_width
from litscope.errors import ConfigError, LitscopeError, did_you_mean, exit_code_of, words_of
from litscope.importing import hasten
from litscope.starter import forget_empty_ranks, is_silent, quiet_torch, refuse_company


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after `litscope`; default: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if is_shell_asking():
        completion.answer_shell(COMMANDS)
    forget_empty_ranks()
    quiet_torch()
    hasten()
    code = _answer(words)
    if argv is None:
        _end_undisturbed()
    return code


def _end_undisturbed() -> None:
    """All is done and said. The interpreter takes a moment to end, and Ctrl-C would be told as a traceback of that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _answer(words: list[str]) -> int:
    with answering(words) as envelope:
        try:
            code = _run(words)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has gone (`litscope worst RUN | head`)
            leave_stdout()
            return 0
        except (LitscopeError, KeyboardInterrupt, OSError) as error:
            message, code = _failure(error)
            envelope.fail(type(error).__name__, message, code)
        return code


def _failure(error: LitscopeError | KeyboardInterrupt | OSError) -> tuple[str, int]:
    """Say what went wrong, and return that with the exit code."""
    words, code = words_of(error), exit_code_of(error)
    if words is None:
        raise error
    message = scrubbed(words)
    is_said = isinstance(error, LitscopeError) and (error.is_said or is_silent())
    if isinstance(error, KeyboardInterrupt):
        if not is_silent():
            say(message)
    elif not is_said:
        first, *more = message.split("\n")
        say(f"error: {first}", *(line if line.startswith(" ") else f"  {line}" for line in more))
    return message, code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        write(_overview())
        return 0
    if words[0] == "--version":
        import litscope

        write(f"litscope {litscope.__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS) or f" Commands: {', '.join(COMMANDS)}."
        raise ConfigError(f"{words[0]!r} is not a command.{hint} `litscope --help` describes them.")
    if words[0] not in IN_COMPANY and not {"-h", "--help"}.intersection(words):
        refuse_company(f"litscope {words[0]}")
    return COMMANDS[words[0]](words[1:])


IN_COMPANY = ("fit", "doctor")
"""Commands for all tasks of a step of Slurm, or all processes of torchrun: they train in all, or look at each."""


COMMANDS: dict[str, Command] = {
    name_of(command): command
    for command in (
        *(train.fit, train.check, train.calibrate, train.evaluate, train.predict),
        *(search.tune, search.cv, ensembles.ensemble, train.lr_find, train.batch_size_find, train.models, bench.bench),
        *(launch.launch, jobs.jobs, jobs.logs, jobs.cancel),
        *(studio.studio, console.console, report.report, runs.runs, runs.rename, runs.delete),
        *(ask.worst, suspects.suspects, ask.scores, ask.sample, ask.confusions),
        *(extract.sql, extract.compare, extract.export),
        *(features.features, features.neighbours),
        *(shards.prepare, shards.index, shards.verify),
        *(act.discard, act.restore, act.relabel, act.reweight, act.tag, act.untag),
        *(steer.pause, steer.resume, steer.set_, steer.checkpoint, steer.stop),
        *(journal.undo, journal.actions),
        *(experiment.replay, experiment.whatif),
        *(train.doctor, train.demo, completion.completion),
    )
}
"""Every command by its name, in the order of the overview."""


def _overview() -> str:
    lines = [
        "usage: litscope COMMAND ...",
        "",
        "Train classifiers, and see every sample while they train.",
        "",
        "commands",
    ]
    width = screen_width(sys.stdout)
    for name, command in COMMANDS.items():
        line = f"  {name:<16} {(command.__doc__ or '').splitlines()[0]}"
        lines += [line] if width is None else textwrap.wrap(line, max(width, 40), subsequent_indent=" " * 19)
    return "\n".join([*lines, "", "`litscope COMMAND --help` describes one. New here? `litscope demo`"])
