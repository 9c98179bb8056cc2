"""Commands that ask a run about its samples. `sample --why` asks its network; all else needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.commands.line import (
    check_n,
    make_parser,
    parse,
    save_csv,
    show,
    show_json,
    stdout_for_result,
    write,
    write_lines,
)
from litscope.commands.text import SUSPICION, as_read, table
from litscope.console import cell, say, say_prose, sparkline, warn
from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.rundir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

    from litscope.evaluation.why import Why


_SPLITS = ("train", "val", "test")
_BY = (
    *("loss", "margin", "p_label", "entropy", "neighbour_distance", "neighbour_agreement"),
    *("predictive_entropy", "expected_entropy", "mutual_information", "set_size"),
    *("measured_p_pred", "measured_p_label"),
)
_NUM_SHOWN = 20


def worst(argv: list[str]) -> int:
    """The samples of a run that the model finds hardest."""
    parser = make_parser(worst)
    parser.add_argument("run_dir", metavar="RUN", help="a run's folder")
    parser.add_argument("-n", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="default: train")
    parser.add_argument(
        "--by",
        choices=_BY,
        default="loss",
        metavar="SCORE",
        help=f"{', '.join(_BY)}; default: loss. Those of neighbours need `litscope neighbours RUN`, the last six "
        "`litscope evaluate RUN --record`",
    )
    parser.add_argument("--last-epochs", type=int, default=5, metavar="N", help="epochs in the mean (default: 5)")
    parser.add_argument(
        "--sheet", metavar="PNG", default=True, help="the contact sheet (default: in the run's figures/)"
    )
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help="print the table only")
    given, as_json = parse(parser, argv)
    for name in ("n", "last_epochs"):
        if given[name] < 1:
            raise ConfigError(f"{'-n' if name == 'n' else '--last-epochs'} {given[name]}: it is 1 or more.")
    with stdout_for_result() as out:
        from litscope.curation.worst import worst_samples

        found = worst_samples(**given)
    show(found, as_json, out, found.run)
    for note in found.notes:
        say(note)
    if found.sheet is not None:
        say(f"contact sheet: {found.sheet}")
    return 0


def scores(argv: list[str]) -> int:
    """What every sample's visits add up to, one row per sample."""
    parser = make_parser(scores)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("-n", type=int, help=f"how many (default: {_NUM_SHOWN}; with --json or --csv all)")
    parser.add_argument("--split", choices=_SPLITS, help="default: all")
    parser.add_argument("--sort", metavar="COLUMN", help="ascending; after a minus (--sort=-NAME) descending")
    parser.add_argument("--csv", metavar="FILE", help="write the table as CSV")
    given, as_json = parse(parser, argv)
    check_n(given["n"])
    with stdout_for_result() as out:
        from litscope.ledger.encode import json_rows

        n = given["n"] or (None if as_json or given["csv"] is not None else _NUM_SHOWN)
        run = RunDir.open(given["run"])
        found = _scores(run, given["split"], given["sort"] or "sample_id", n)
        warn_of_outdated(run, found.column_names)
    if given["csv"] is not None:
        save_csv(found, Path(given["csv"]))
    if as_json:
        show_json(json_rows(found), out, run.path)
    elif given["csv"] is None:
        shown = [name for name in found.column_names if name not in ("sample_id", "label", "believed_label")]
        titles = {name: SUSPICION if name == "suspicion" else name for name in shown}
        write_lines(table(map(as_read, found.to_pylist()), titles), out)
        say_prose(_meaning())
    return 0


def _scores(run: RunDir, split: str | None, sort: str, n: int | None) -> pa.Table:
    from litscope.ledger.custom import has_only_custom
    from litscope.ledger.neighbours import NEIGHBOUR_SCORES
    from litscope.ledger.queries import why_nothing
    from litscope.ledger.scoring.score_schema import SCORE_SCHEMA
    from litscope.ledger.uncertainties import UNCERTAINTIES
    from litscope.ledger.views import sql as ask

    if has_only_custom(run):
        raise RunError(why_nothing(run, "has no scores yet"))
    name = sort.removeprefix("-")
    more = [
        *(NEIGHBOUR_SCORES if run.neighbours.exists() else ()),
        *(UNCERTAINTIES if run.uncertainties.exists() else ()),
    ]
    known = [*SCORE_SCHEMA.names, *more, "p_label", "key"]
    if name not in known:
        raise ConfigError(f"--sort {sort}: no such score.{did_you_mean(name, known)} There are {', '.join(known)}.")
    where = f"WHERE s.split = '{split}'" if split else ""
    return ask(
        run,
        f"""
        SELECT s.sample_id, m.key, s.split, s.label, c.label_name, b.label_name AS believed_name,
               s.* EXCLUDE (sample_id, split, label), m.p_label
        FROM scores s JOIN samples m USING (sample_id)
        LEFT JOIN classes c ON c.label = s.label LEFT JOIN classes b ON b.label = s.believed_label
        {where} ORDER BY "{name}" {"DESC" if sort.startswith("-") else "ASC"} NULLS LAST, s.sample_id
        {f"LIMIT {n}" if n else ""}
        """,
    )


def warn_of_outdated(run: RunDir, names: Iterable[str]) -> None:
    """Say where what was measured is of other weights, or of another readout, than there are now.

    Args:
        names: the columns that are shown.
    """
    from litscope.ledger.uncertainties import MEASURED, UNCERTAINTIES, outdated_lines, read_uncertainties

    if not {*UNCERTAINTIES, *MEASURED} & set(names):
        return
    for line in outdated_lines(run, read_uncertainties(run, has_sets=False)):
        warn(line)


def sample(argv: list[str]) -> int:
    """Everything that a run knows about one sample: visits, scores, actions."""
    parser = make_parser(sample)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("sample", metavar="KEY|ID", help="the sample's key, the end of it after a /, or its id")
    parser.add_argument("--why", action="store_true", help="also draw which places of its image speak for a class")
    parser.add_argument("--class", dest="of", metavar="NAME", help="with --why: the class (default: the predicted one)")
    parser.add_argument("--checkpoint", help="with --why: best, last or a file (default: best)")
    parser.add_argument("--dataset", help="with --why: where the data are now (default: where they were)")
    parser.add_argument("--figure", metavar="PNG", help="with --why: the picture (default: in the run's figures/)")
    given, as_json = parse(parser, argv)
    for name in ("of", "checkpoint", "dataset", "figure"):
        if given[name] is not None and not given["why"]:
            raise ConfigError(f"--{'class' if name == 'of' else name} belongs to --why.")
    with stdout_for_result() as out:
        from litscope.ledger.lookup import describe_sample, find_sample

        run = RunDir.open(given["run"])
        found = describe_sample(run, find_sample(run, given["sample"]))
        drawn = _draw_why(run, found["sample_id"], given) if given["why"] else None
    if as_json:
        show_json(found if drawn is None else {**found, "why": drawn.to_dict()}, out, run.path)
        return 0
    write_lines(_sample_lines(found), out)
    say_prose(_meaning())
    if drawn is not None:
        say(drawn.text())
    return 0


def _draw_why(run: RunDir, sample_id: int, given: dict[str, Any]) -> Why:
    from litscope.evaluation.why import why

    return why(
        run.path,
        sample_id,
        given["of"],
        given["checkpoint"] or "best",
        figure=given["figure"],
        dataset=given["dataset"],
    )


def _meaning() -> str:
    from litscope.ledger.scoring.recent import P_LABEL_IS
    from litscope.ledger.scoring.score_schema import SUSPICION_IS

    return f"{SUSPICION_IS} {P_LABEL_IS}"


def _sample_lines(found: dict[str, Any]) -> list[str]:
    visits, actions = [as_read(visit) for visit in found["visits"]], found["actions"]
    facts = as_read({name: value for name, value in found.items() if name not in ("visits", "actions")})
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {cell(value)}".rstrip() for name, value in facts.items()]
    if visits:
        curve = sparkline([visit["p_label"] for visit in visits])
        names = (
            "epoch",
            "step",
            "phase",
            "label",
            "pred_name",
            "loss",
            "p_label",
            "p_max",
            "margin",
            "el2n",
            "entropy",
        )
        lines += ["", f"p(label) by visit  {curve}", *table(visits, {name: name for name in names})]
    if actions:
        lines += ["", *table(actions, {name: name for name in ("id", "who", "what", "status", "step", "why")})]
    return lines


def confusions(argv: list[str]) -> int:
    """Which classes are taken for which, and by which samples."""
    parser = make_parser(confusions)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("-n", type=int, default=10, help="most pairs of classes to show (default: 10)")
    parser.add_argument("--split", choices=_SPLITS, default="val", help="default: val")
    given, as_json = parse(parser, argv)
    check_n(given["n"])
    with stdout_for_result() as out:
        from litscope.ledger.queries import classes, confused_keys, confusion, most_confused

        run = RunDir.open(given["run"])
        cells = most_confused(confusion(run, given["split"]), classes(run), given["n"])
        keys = confused_keys(run, cells, given["split"])
        rows = [{**cell._asdict(), "keys": names} for cell, names in zip(cells, keys, strict=True)]
    if as_json:
        show_json(rows, out, run.path)
    elif not rows:
        write(f"Every sample of {given['split']} is predicted correctly.", out)
    else:
        columns = {"label_name": "label", "pred_name": "taken for", "num_samples": "samples", "share": "share"}
        write_lines(table(rows, {**columns, "keys": "keys"}), out)
    return 0
