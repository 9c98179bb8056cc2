"""Commands about runs as folders: which there are, another name for one, away with one. No torch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write, write_lines
from litscope.console import number_of, one_line, say
from litscope.errors import ConfigError, RunError
from litscope.rundir import RunDir


def runs(argv: list[str]) -> int:
    """List the runs of a folder: state, best metric, size."""
    parser = make_parser(runs)
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="default: runs")
    given, as_json = parse(parser, argv)
    folder = Path(given["folder"])
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder. Give the one that your runs lie in; `litscope fit` makes runs/.")
    with stdout_for_result() as out:
        from litscope.curation.run_list import all_facts, lines

        found = all_facts(folder)
    if as_json:
        show_json([facts.to_dict() for facts in found], out)
    elif found:
        write_lines(lines(found), out)
    else:
        say(f"There are no runs in {folder}/.")
    return 0


def rename(argv: list[str]) -> int:
    """Give a run's folder another name."""
    parser = make_parser(rename)
    parser.add_argument("run", metavar="RUN", help="a run's folder or name")
    parser.add_argument("name", metavar="NAME", help="the new name, beside the old one")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.curation.run_list import rename as give_name

        run = RunDir.open(given["run"])
        _require_no_job(run)
        found = give_name(run, given["name"])
    if as_json:
        show_json({"from": str(run.path), "to": str(found.path)}, out, found.path)
    else:
        write(f"{run.path} is now {found.path}", out)
    return 0


def delete(argv: list[str]) -> int:
    """Delete runs with all that they recorded; asks first."""
    parser = make_parser(delete)
    parser.add_argument("run", nargs="+", metavar="RUN", help="runs' folders or names")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.curation.run_list import delete as take_away
        from litscope.curation.run_list import run_facts, size_in_words

        found = [RunDir.open(name) for name in given["run"]]
        for run in found:
            _require_no_job(run)
        facts = [run_facts(run) for run in found]
        if not given["yes"]:
            for one in facts:
                say(f"{one.run}  {one.state}, {number_of(one.epochs, 'epoch')}, {size_in_words(one.size_bytes)}")
            if not _is_wanted(len(found)):
                say("Nothing was deleted.")
                if as_json:
                    show_json([], out)
                return 2
        take_away(found)
    if as_json:
        show_json([{"run": one.run, "size_bytes": one.size_bytes} for one in facts], out)
    else:
        write("\n".join(f"deleted {one_line(one.run)}, {size_in_words(one.size_bytes)}" for one in facts), out)
    return 0


def _require_no_job(run: RunDir) -> None:
    """Refuse a run whose job waits or runs on a cluster. Where no Slurm is, the folder lies away from its cluster.

    Raises:
        RunError: naming the job.
        LitscopeError: if Slurm does not say where it stands.
    """
    if run.jobs.exists() and shutil.which("squeue") is not None:
        from litscope.cluster.submission import require_idle

        require_idle(run, "It would not find its run again. Wait for its end, or first")


def _is_wanted(count: int) -> bool:
    """Ask the person at the terminal; without one there is nobody to ask.

    Raises:
        ConfigError: if standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask at. To delete without being asked: --yes.")
    sys.stderr.write(f"Delete {'this run' if count == 1 else f'these {count} runs'} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
