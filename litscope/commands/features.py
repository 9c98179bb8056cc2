"""Commands about features: what a network makes of each image before its last layer."""

from __future__ import annotations

from typing import Any

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result
from litscope.commands.sources import add_source_flags, refuse, run_flags, run_or_source, source_recipe
from litscope.console import say, shell_word
from litscope.rundir import RunDir


def features(argv: list[str]) -> int:
    """What a network makes of each image of RUN or SOURCE, as a table that `litscope fit` reads."""
    parser = make_parser(features)
    parser.add_argument("what", metavar="RUN|SOURCE", help="a run's folder, or data as for `litscope fit`")
    parser.add_argument(
        "--output", "-o", metavar="FILE", required=True, help=".parquet or .csv: key, label, split, f0, f1, ..."
    )
    parser.add_argument("--checkpoint", help="of RUN: best, last or a file (default: best)")
    parser.add_argument("--dataset", help="of RUN: where its data are now (default: where they were)")
    add_source_flags(parser)
    given, as_json = parse(parser, argv)
    what = run_or_source(given.pop("what"))
    with stdout_for_result() as out:
        from litscope.features.table import output_path, write_features

        path = output_path(given["output"])
        found = featured(what, given)
        write_features(path, found.manifest, found.rows, found.ids)
    run = what.path if isinstance(what, RunDir) else None
    if as_json:
        facts = {
            "output": str(path),
            "num_samples": len(found.ids),
            "num_features": found.rows.shape[1],
            "network": found.by,
        }
        show_json(facts, out, run)
    else:
        say(f"{len(found.ids):,} samples: {path}", f"next: litscope fit {shell_word(path)}")
    return 0


def featured(what: RunDir | str, given: dict[str, Any]) -> Any:
    """The features of a run or a data set (`evaluation.featured.Featured`).

    Args:
        given: the flags of `add_source_flags`, `checkpoint` and `dataset`.

    Raises:
        UserError: for flags of the other kind, and as `evaluation.featured`.
    """
    if isinstance(what, RunDir):
        flags = run_flags(given)
        from litscope.evaluation.featured import features_of_run

        return features_of_run(what.path, given["checkpoint"] or "best", dataset=given["dataset"], **flags)
    refuse(given, ("checkpoint", "dataset"), f"is for a run, and {what} is a data set")
    recipe = source_recipe(what, given)
    from litscope.evaluation.featured import features_of_source

    return features_of_source(recipe)
