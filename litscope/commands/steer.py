"""Commands that steer a run as a whole: each writes one action into its journal. They need neither torch nor a port."""

from __future__ import annotations

import argparse
from typing import Any

from litscope.commands.choose import find_run, names_a_run
from litscope.commands.line import Command, Parser, make_parser, parse
from litscope.commands.send import add_answer, add_run, request_and_send
from litscope.console import shell_word
from litscope.errors import ConfigError
from litscope.rundir import RunDir


def set_(argv: list[str]) -> int:
    """Change the learning rate, epochs, patience, batch size ... while a run trains."""
    from litscope.ledger.journal.verbs import SETTINGS, typed_setting

    parser = make_parser(set_)
    parser.usage = "litscope set [RUN] NAME=VALUE ... [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["settings", *(f"  {name:<16} {what}" for name, (what, _) in SETTINGS.items())])
    parser.add_argument("words", nargs="+", metavar="[RUN] NAME=VALUE", help="lr=0.01 epochs=30; lr=schedule")
    add_answer(parser)
    given, as_json = parse(parser, argv)
    words = given["words"]
    run = words.pop(0) if "=" not in words[0] or names_a_run(words[0]) else None
    if run in SETTINGS and not names_a_run(run):
        raise ConfigError(f"{run}: give its value with an equals sign: {run}=VALUE.")
    if not words:
        raise ConfigError(f"Say what to set, as NAME=VALUE. Names: {', '.join(SETTINGS)}.")
    return request_and_send(find_run(run), "set", given, as_json, settings=dict(map(typed_setting, words)))


def pause(argv: list[str]) -> int:
    """Stop training for a while: the process keeps its memory and goes on answering."""
    return _plain(pause, argv)


def resume(argv: list[str]) -> int:
    """End a pause; with `schedule` put the learning rate back on its schedule."""
    parser = make_parser(resume)
    parser.usage = "litscope resume [RUN] [schedule] [options]"
    parser.add_argument("words", nargs="*", metavar="[RUN] [schedule]", help="a run's folder (default: the newest)")
    add_answer(parser)
    given, as_json = parse(parser, argv)
    words = given["words"]
    schedule: dict[str, Any] = {"schedule": True} if words and words[-1] == "schedule" else {}
    run = words[:-1] if schedule else words
    if len(run) > 1:
        raise ConfigError(f"resume {' '.join(words)}: give one run, and `schedule` or nothing after it.")
    found = find_run(run[0] if run else None)
    instead = None if schedule else _ended(found)
    return request_and_send(found, "resume", given, as_json, instead, **schedule)


def checkpoint(argv: list[str]) -> int:
    """Have the run write a checkpoint after this step."""
    return _plain(checkpoint, argv)


def stop(argv: list[str]) -> int:
    """End a run after this step as if it were complete: validation, test, summary."""
    return _plain(stop, argv)


def _plain(command: Command, argv: list[str]) -> int:
    """Send a verb that has no arguments and the name of its command."""
    parser = make_parser(command)
    add_run(parser)
    add_answer(parser)
    given, as_json = parse(parser, argv)
    run = find_run(given["run"])
    return request_and_send(run, command.__name__, given, as_json, _ended(run))


def _ended(run: RunDir) -> str:
    from litscope.runs import what_goes_on

    return f"It has ended, or was killed; {what_goes_on(run)} goes on with it."


def add_now(parser: Parser) -> None:
    """Add the options of `litscope evaluate RUN --now`."""
    parser.add_argument(
        "--now", action="store_true", help="ask the process that is training RUN; nothing is loaded here"
    )
    parser.add_argument("--tag", metavar="NAME", help="with --now: the samples of a tag instead of a split")
    add_answer(parser)


def take_now(parser: Parser, given: dict[str, Any]) -> dict[str, Any] | None:
    """Take the options of --now out of those of `evaluate`: run, split, tag, note, wait; None without --now.

    Raises:
        ConfigError: if options of both kinds are mixed.
    """
    own = {name: given.pop(name) for name in ("now", "tag", "note", "wait")}
    if not own.pop("now"):
        for name, value in own.items():
            if value != parser.get_default(name):
                raise ConfigError(f"--{name} goes with --now, which asks the training process.")
        return None
    for name, value in given.items():
        if name not in ("run", "split") and value != parser.get_default(name):
            raise ConfigError(
                f"--{name.replace('_', '-')}: with --now the run evaluates its present weights on its own data. "
                "Leave one of the two out."
            )
    return {"run": given["run"], "split": given["split"], **own}


def evaluate_now(given: dict[str, Any], as_json: bool) -> int:
    """Have the training process evaluate its present weights.

    Args:
        given: as `take_now` returns them.
        as_json: print one JSON document.

    Raises:
        ConfigError: if the split or the tag has no samples.
    """
    import numpy as np

    from litscope.data.manifest import Manifest

    run = find_run(given["run"])
    if given["tag"] is not None:
        if given["split"] is not None:
            raise ConfigError("evaluate --now: give either --split or --tag.")
        from litscope.curation.chosen import require_tag

        require_tag(run, given["tag"])
        subset = {"tag": given["tag"]}
    else:
        subset = {"split": given["split"] or "val"}
        if not np.any(Manifest.read(run.manifest).splits == subset["split"]):
            raise ConfigError(f"--split {subset['split']}: {run.path} has no such samples. Splits: train, val, test.")
    instead = f"Without --now it is evaluated here: litscope evaluate {shell_word(run.path)}"
    return request_and_send(run, "evaluate", given, as_json, instead, **subset)
