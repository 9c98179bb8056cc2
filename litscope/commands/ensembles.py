"""Networks of separate runs, joined into one."""

from __future__ import annotations

from pathlib import Path

from litscope.commands.line import make_parser, parse, show, stdout_for_result, takes


def ensemble(argv: list[str]) -> int:
    """Join the networks of separate runs into one, without training, and say whether it beats the best of them."""
    from litscope.fusions import RULES

    parser = make_parser(ensemble)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="runs, folders of checkpoints, checkpoint files, or folders of `cv`"
    )
    strategy = parser.add_argument(
        "--strategy", help=f"{', '.join(RULES)} (default: stacked; mean where there is nothing to fit it on)"
    )
    takes(strategy, *RULES)
    parser.add_argument("--output", "-o", metavar="DIR", help="the new run's folder (default: runs/ensemble-N)")
    parser.add_argument("--checkpoint", default="best", help="of each run: best or last (default: best)")
    parser.add_argument("--dataset", help="where the data of the first run are now (default: where they were)")
    parser.add_argument("--data-dir", "--data-root", help="where named data sets are now")
    parser.add_argument("--batch-size", type=int, help="default: as in training")
    parser.add_argument("--num-workers", type=int, help="default: as in training")
    parser.add_argument("--accelerator", help="default: the best device here")
    given, as_json = parse(parser, argv)
    if given["dataset"] is not None:
        from litscope.data.sources.names import require_dataset

        require_dataset(given["dataset"])
    with stdout_for_result() as out:
        from litscope.experiments.ensemble import ensemble as join

        found = join(given.pop("runs"), **given)
    show(found, as_json, out, Path(found.output))
    return 0
