"""Commands about features: what a network makes of each image before its last layer."""

from __future__ import annotations

from typing import Any

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write_lines
from litscope.commands.sources import ABOUT_RUNS, add_source_flags, refuse, run_flags, run_or_source, source_recipe
from litscope.commands.text import table
from litscope.console import say, shell_word
from litscope.errors import ConfigError
from litscope.rundir import RunDir

_NUM_SHOWN = 10


def features(argv: list[str]) -> int:
    """What a network makes of each image of RUN or SOURCE, as a table that `litscope fit` reads."""
    parser = make_parser(features)
    parser.add_argument("what", metavar="RUN|SOURCE", help="a run's folder, or data as for `litscope fit`")
    parser.add_argument(
        "--output", "-o", metavar="FILE", required=True, help=".parquet or .csv: key, label, split, f0, f1, ..."
    )
    parser.add_argument("--checkpoint", help="of RUN: best, last or a file (default: best)")
    parser.add_argument("--dataset", help="of RUN: where its data are now (default: where they were)")
    add_source_flags(parser, and_run=ABOUT_RUNS)
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


def neighbours(argv: list[str]) -> int:
    """The samples of a run that its network finds most like KEY; without KEY, the pairs that are one picture."""
    parser = make_parser(neighbours)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "sample", nargs="?", metavar="KEY|ID", help="the sample's key, the end of it after a /, or its id"
    )
    parser.add_argument("-n", type=int, help=f"how many neighbours of KEY, at most {_NUM_SHOWN} (default)")
    parser.add_argument("--again", action="store_true", help="compute features and neighbours anew")
    parser.add_argument("--checkpoint", help="whose features are computed: best, last or a file (default: best)")
    parser.add_argument("--dataset", help="where the data are now (default: where they were)")
    parser.add_argument("--sheet", metavar="PNG", help="a contact sheet of KEY and its neighbours")
    add_source_flags(parser, ABOUT_RUNS)
    given, as_json = parse(parser, argv)
    for flag, value in (("-n", given["n"]), ("--sheet", given["sheet"])):
        if given["sample"] is None and value is not None:
            raise ConfigError(f"{flag} is about the neighbours of one sample. Give its KEY, or leave {flag} out.")
    num_shown = _NUM_SHOWN if given["n"] is None else given["n"]
    if not 1 <= num_shown <= _NUM_SHOWN:
        raise ConfigError(f"-n {num_shown}: it is from 1 to {_NUM_SHOWN}, as many neighbours as are kept of a sample.")
    run = RunDir.open(given["run"])
    with stdout_for_result() as out:
        if given["sample"] is None:
            found = _pairs(run, given)
            if as_json:
                show_json(found.to_dict(), out, run.path)
            else:
                write_lines(found.lines(), out)
            return 0
        from litscope.ledger.lookup import find_sample, neighbours_of
        from litscope.ledger.neighbours import read_neighbours

        sample_id = find_sample(run, given["sample"])
        if given["again"] or given["checkpoint"] or read_neighbours(run) is None:
            _pairs(run, given, is_looked_at=False)
        rows = neighbours_of(run, sample_id, num_shown)
    if as_json:
        show_json(rows, out, run.path)
    else:
        columns = {"rank": "rank", "key": "key", "split": "split", "label_name": "label", "distance": "distance"}
        write_lines(table(rows["neighbours"], columns), out)
        agrees = rows["neighbour_agreement"]
        said = "" if agrees is None else f"; {agrees:.0%} of its neighbours have its label"
        say(f"{rows['key']} ({rows['split']}, {rows['label_name']}){said}", f"features: {rows['network']}")
    if given["sheet"] is not None:
        _draw(run, rows, given["sheet"])
    return 0


def _pairs(run: RunDir, given: dict[str, Any], is_looked_at: bool = True) -> Any:
    """Compute a run's features and write its neighbours; the near-duplicates, if the images are to be looked at."""
    flags = run_flags(given)
    from litscope.evaluation.featured import features_of_run
    from litscope.features.duplicates import near_duplicates
    from litscope.features.neighbours import find_neighbours
    from litscope.ledger.neighbours import write_neighbours

    made = features_of_run(run.path, given["checkpoint"] or "best", dataset=given["dataset"], **flags)
    found = find_neighbours(made.rows, made.ids)
    agreement = found.agreement(made.manifest.labels)
    write_neighbours(run, found.ids, found.nearest, found.distances, agreement, made.by)
    return near_duplicates(found, made.manifest, made.source.reader.read) if is_looked_at else None


def _draw(run: RunDir, rows: dict[str, Any], sheet: str) -> None:
    from pathlib import Path

    from litscope.curation.sheet import draw_samples

    shown = [{**rows, "distance": 0.0}, *rows["neighbours"]]

    def caption(row: dict[str, Any]) -> str:
        return f"{row['label_name']}\n{row['split']}, distance {row['distance']:.3f}\n{row['key']}"

    def title(num_shown: int) -> str:
        return f"{run.path.name}: {rows['key']} and the {num_shown - 1:,} samples nearest to it"

    drawn, notes = draw_samples(run, shown, caption, title, Path(sheet), is_asked=True)
    say(*notes, *([f"contact sheet: {drawn}"] if drawn is not None else []))
