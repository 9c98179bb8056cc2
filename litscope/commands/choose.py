"""What the commands that act on samples share: which run, and the options that choose samples of it."""

from __future__ import annotations

from litscope.commands.line import Parser
from litscope.console import say
from litscope.rundir import RunDir

NUM_SHOWN = 20
"""How many samples --dry-run lists for people."""


def find_run(name: str | None) -> RunDir:
    """The run with that folder or name; without one the newest, and a line says so.

    Raises:
        RunError: if there is none.
    """
    from litscope.runs import newest_run

    if name is not None:
        return RunDir.open(name)
    run = newest_run()
    say(f"run: {run.path} (the newest)")
    return run


def names_a_run(word: str) -> bool:
    """Whether this is a run's folder, or its name below runs/."""
    from litscope.runs import RUNS

    return RunDir(word).is_run() or RunDir(RUNS / word).is_run()


def add_samples(parser: Parser) -> None:
    """The options that choose samples."""
    parser.add_argument("--where", metavar="SQL", help="a condition on the view samples: \"label_name = 'cat'\"")
    parser.add_argument("--key", nargs="+", action="extend", default=[], metavar="KEY", help="samples by their key")
    parser.add_argument("--id", nargs="+", action="extend", type=int, default=[], metavar="N", help="by sample_id")
    parser.add_argument("--dry-run", action="store_true", help="say how many samples and which; write nothing")
