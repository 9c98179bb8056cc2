"""Commands that train again to find something out: repeat a run, or try a decision."""

from __future__ import annotations

from litscope.commands.line import make_parser, parse, show, stdout_for_result
from litscope.console import say
from litscope.rundir import RunDir


def replay(argv: list[str]) -> int:
    """Repeat a run with its actions at their steps, and compare the weights bit for bit."""
    parser = make_parser(replay)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--run-dir", metavar="DIR", help="the new run's folder (default: runs/NAME-replay)")
    given, as_json = parse(parser, argv)
    run = RunDir.open(given["run"])
    with stdout_for_result() as out:
        from litscope.experiments.replay import replay as repeat

        found = repeat(run, given["run_dir"])
    show(found, as_json, out, run.path)
    return 0 if found.is_equal else 1


def whatif(argv: list[str]) -> int:
    """Say what a decision would do to the validation metric: two arms from one checkpoint, with several seeds."""
    parser = make_parser(whatif)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--discard", metavar="SQL", help="leave out the training samples that meet this condition")
    parser.add_argument(
        "--actions", metavar="RUN|FILE", help="take these decisions; RUN itself means what is pending in its journal"
    )
    parser.add_argument("--checkpoint", default="last", help="last, best or a file (default: last)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs that each arm trains (default: 3)")
    parser.add_argument("--seeds", type=int, default=3, help="number of pairs of trainings (default: 3)")
    parser.add_argument("--metric", help="val/accuracy, val/loss ... (default: the run's monitor)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the trainings")
    given, as_json = parse(parser, argv)
    from litscope.config.resume import checkpoint_of
    from litscope.runs import find_actions

    run = RunDir.open(given.pop("run"))
    checkpoint_of(run, given["checkpoint"])
    if given["actions"] is not None and given["discard"] is None:
        find_actions(given["actions"])
    with stdout_for_result() as out:
        from litscope.experiments.whatif import whatif as try_out

        found = try_out(run, **given)
    show(found, as_json, out, run.path)
    say(f"report: {found.report}")
    return 0
