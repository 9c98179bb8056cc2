"""Commands about the jobs of a cluster: where they stand, what they say, an end to one. No torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litscope.commands.line import make_parser, parse, show_json, write_lines
from litscope.console import say
from litscope.errors import ConfigError, RunError

if TYPE_CHECKING:
    from litscope.commands.line import Parser


def jobs(argv: list[str]) -> int:
    """List the jobs that the runs of a folder have on a Slurm cluster."""
    parser = make_parser(jobs)
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="default: runs")
    given, as_json = parse(parser, argv)
    from litscope.cluster.listing import jobs_below, lines
    from litscope.cluster.slurm import require

    require("squeue", "Run this on a login node; `litscope runs` lists runs without it.")
    folder = Path(given["folder"])
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder. Give the one that your runs lie in.")
    found = jobs_below(folder)
    if as_json:
        show_json([facts.to_dict() for facts in found], sys.stdout)
    elif found:
        write_lines(lines(found))
    else:
        say(f"No run in {folder}/ has had a job. `litscope launch slurm -- fit SOURCE` submits one.")
    return 0


def logs(argv: list[str]) -> int:
    """Show what the newest job of a run has printed; with -f also what it prints next, until its end."""
    parser = make_parser(logs)
    parser.add_argument("run", metavar="RUN", help="a run's folder or name")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the job is over, over requeues")
    _add_task(parser)
    given, as_json = parse(parser, argv)
    from litscope.cluster.logs import follow, log_files
    from litscope.cluster.records import last_job
    from litscope.cluster.slurm import require

    record = last_job(given["run"])
    if given["follow"]:
        if as_json:
            raise ConfigError("--follow goes on for as long as the job; leave it out, or --json.")
        require("squeue", "Without -f what is there is shown.")
        follow(record, given["task"], lambda lines: write_lines(lines) if lines else None)
        return 0
    files = log_files(record, given["task"])
    if as_json:
        found = [{"file": str(file.path), "lines": list(file.new_lines(is_last=True))} for file in files]
        show_json({"job": record.job, "files": found}, sys.stdout, record.run.path)
        return 0
    for file in files:
        write_lines(file.new_lines(is_last=True))
    if not files:
        say(f"Job {record.job} has printed nothing yet. `litscope jobs {record.run.path.parent}` says where it stands.")
    return 0


def cancel(argv: list[str]) -> int:
    """End the newest job of each run, and wait until it has ended."""
    parser = make_parser(cancel)
    parser.add_argument("run", nargs="+", metavar="RUN", help="runs' folders or names")
    _add_task(parser)
    given, as_json = parse(parser, argv)
    from litscope.cluster.cancelling import cancel as end
    from litscope.cluster.logs import check_task
    from litscope.cluster.records import last_job
    from litscope.cluster.slurm import require

    require("scancel", "Run this on a login node.")
    records = [last_job(run) for run in given["run"]]
    for record in records:
        check_task(record, given["task"])
    ended = [end(record, given["task"]) for record in records]
    if as_json:
        show_json([one.to_dict() for one in ended], sys.stdout, records[0].run.path if len(records) == 1 else None)
    else:
        write_lines(line for one in ended for line in one.lines())
    return 0


def _add_task(parser: Parser) -> None:
    parser.add_argument("--task", type=int, metavar="N", help="of a job array, only its task N, from 1")
