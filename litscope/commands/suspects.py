"""`litscope suspects`: labels that are probably wrong, of a run, a cross-validation, or data on which nobody trained.

Of a run it needs no torch; `--validate` trains, and data without a run are looked at by a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from litscope.commands.line import (
    check_n,
    make_parser,
    parse,
    save_csv,
    show,
    show_json,
    stdout_for_result,
    write_lines,
)
from litscope.commands.sources import ABOUT_DATA, add_source_flags, refuse, refuse_given, run_or_source, source_recipe
from litscope.commands.text import SUSPICION, table
from litscope.console import LONGEST_CURVE, say, say_prose, shell_word, sparkline, warn
from litscope.errors import ConfigError
from litscope.rundir import RunDir
from litscope.runs import find_folds

if TYPE_CHECKING:
    import pyarrow as pa

    from litscope.evaluation.fold_suspects import FoldSuspects
    from litscope.evaluation.suspects import SourceSuspects
    from litscope.ledger.suspects import Suspects

_SPLITS = ("train", "val", "test")
_NUM_SHOWN = 20
_CURVE = "by epoch"
OF_RUN = ("all", "validate", "share", "keep")
"""Flags that only make sense of a run."""


def suspects(argv: list[str]) -> int:
    """The samples of RUN, CV or SOURCE whose label is probably wrong, most suspicious first."""
    parser = make_parser(suspects)
    parser.add_argument(
        "what", metavar="RUN|CV|SOURCE", help="the folder of a run or of `litscope cv`, or images as for `litscope fit`"
    )
    parser.add_argument("-n", type=int, help=f"how many (default: {_NUM_SHOWN}; with --json or --csv all)")
    parser.add_argument("--split", choices=_SPLITS, help="default: of RUN train, of SOURCE all")
    parser.add_argument("--csv", metavar="FILE", help="write the ranking as CSV")
    parser.add_argument(
        "--sheet", metavar="PNG", default=True, help="the contact sheet (default: in RUN's figures/; else none)"
    )
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help="no contact sheet")
    of_run = parser.add_argument_group("for RUN")
    of_run.add_argument("--all", action="store_true", help="also samples on which somebody has decided")
    of_run.add_argument(
        "--validate", action="store_true", help="instead, plant wrong labels, train anew, and judge the ranking by them"
    )
    of_run.add_argument("--share", type=float, help="with --validate: share of the training labels (default: 0.1)")
    of_run.add_argument("--keep", action="store_true", help="with --validate: keep the folders of the trainings")
    add_source_flags(parser)
    given, as_json = parse(parser, argv)
    check_n(given["n"])
    word = given.pop("what")
    if (folds := find_folds(word)) is not None:
        refuse(given, (*OF_RUN, "split"), f"is not for {folds}, a cross-validation")
        refuse_given(given, ABOUT_DATA, "is for a data set, and the cross-validation has decided it")
        return _of_folds(folds, given, as_json)
    what = run_or_source(word)
    if isinstance(what, str):
        refuse(given, OF_RUN, f"is for a run, and {what} is a data set")
        return _of_source(what, given, as_json)
    refuse_given(given, ABOUT_DATA, "is for a data set, and a run has decided it")
    if given["validate"]:
        return _validate(what, given, as_json)
    if given["share"] is not None or given["keep"]:
        raise ConfigError("--share and --keep belong to --validate.")
    return _of_run(what, given, as_json)


def _of_run(run: RunDir, given: dict[str, Any], as_json: bool) -> int:
    with stdout_for_result() as out:
        from litscope.ledger.encode import json_rows
        from litscope.ledger.suspects import suspects as rank

        is_listed = as_json or given["csv"] is not None
        n = given["n"] or (None if is_listed else _NUM_SHOWN)
        found = rank(run, n, split=given["split"] or "train", with_decided=given["all"])
        ranking = found.table if n is None else _with_trajectories(run, found, is_whole=is_listed)
    if given["csv"] is not None:
        save_csv(found.table, Path(given["csv"]))
    if isinstance(given["sheet"], str) and is_listed:
        _draw_suspects(run, found, given["sheet"])
    if as_json:
        show_json({**found.facts(), "suspects": json_rows(ranking)}, out, run.path)
    elif not is_listed:
        write_lines(_suspects_lines(found, ranking.to_pylist()), out)
        if given["sheet"]:
            _draw_suspects(run, found, given["sheet"])
    if found.warning is not None:
        warn(found.warning)
    say_prose(*found.sentences())
    if not is_listed:
        say(*_next_lines(run, found))
    return 0


def _of_source(source: str, given: dict[str, Any], as_json: bool) -> int:
    recipe = source_recipe(source, {"val_split": "0", **given})
    with stdout_for_result() as out:
        from litscope.evaluation.suspects import suspects_of_source

        found = suspects_of_source(recipe, _how_many(given, as_json), given["split"])
        return _tell(found, given, as_json, out, {}, f"next: litscope fit {shell_word(source)} --canaries 0.02")


def _of_folds(folder: Path, given: dict[str, Any], as_json: bool) -> int:
    with stdout_for_result() as out:
        from litscope.evaluation.fold_suspects import suspects_of_folds

        found = suspects_of_folds(folder, _how_many(given, as_json))
        return _tell(found, given, as_json, out, {"fold": "fold", "is_doubted": "doubted"}, None)


def _how_many(given: dict[str, Any], as_json: bool) -> int | None:
    """Rows of the ranking: as asked, else what fits a terminal; all where a program reads them."""
    n: int | None = given["n"]
    return n or (None if as_json or given["csv"] is not None else _NUM_SHOWN)


def _tell(
    found: SourceSuspects | FoldSuspects,
    given: dict[str, Any],
    as_json: bool,
    out: TextIO,
    more: dict[str, str],
    then: str | None,
) -> int:
    """Show a ranking that belongs to no run.

    Args:
        more: further columns for people, by name.
        then: what to type next.
    """
    from litscope.ledger.encode import json_rows

    is_listed = as_json or given["csv"] is not None
    if given["csv"] is not None:
        save_csv(found.table, Path(given["csv"]))
    if isinstance(given["sheet"], str):
        drawn = found.draw(Path(given["sheet"]))
        say(f"contact sheet: {given['sheet']}" if drawn else "No contact sheet: not one of the images can be read.")
    if as_json:
        show_json({**found.facts(), "suspects": json_rows(found.table)}, out)
    elif not is_listed:
        columns = {"rank": "rank", "key": "key", "label_name": "label", "believed_name": "believed"}
        numbers = {"suspicion": SUSPICION, "p_label": "p(label)"}
        lines = table(found.table.to_pylist(), {**columns, **numbers, **more})
        left = found.num_ranked - found.table.num_rows
        write_lines([*lines, f"... and {left:,} less suspicious"] if left else lines, out)
    say_prose(*found.sentences())
    if then is not None and not is_listed:
        say(then)
    return 0


def _next_lines(run: RunDir, found: Suspects) -> list[str]:
    """What a person may type next: about the first of the queue, and once there are verdicts, to carry them on."""
    from litscope.ledger.scoring.trust import RIGHT_TAG

    word = shell_word(run.path)
    lines = []
    if found.table.num_rows:
        first = shell_word(found.table["key"][0].as_py())
        lines += [f"litscope sample {word} {first}"]
        if found.warning is None:  # while the network is still learning, its order is not to be decided by
            lines += [f"litscope relabel {word} --to believed --key {first}"]
            lines += [f"litscope tag {word} {RIGHT_TAG} --key {first}"]
    if found.trust.precision is not None:
        lines += [f"litscope export {word} --to csv --output curated.csv"]
    return [f"{'      ' if i else 'next: '}{line}" for i, line in enumerate(lines)]


def _validate(run: RunDir, given: dict[str, Any], as_json: bool) -> int:
    asked = {"-n": given["n"], "--all": given["all"], "--csv": given["csv"], "--sheet": isinstance(given["sheet"], str)}
    mixed = [name for name, value in asked.items() if value] + (
        ["--split"] if given["split"] not in (None, "train") else []
    )
    if mixed:
        raise ConfigError(f"--validate judges the ranking of the training samples as a whole: leave out {mixed[0]}.")
    with stdout_for_result() as out:
        from litscope.experiments.planted import validate

        found = validate(run, 0.1 if given["share"] is None else given["share"], given["keep"])
    show(found, as_json, out, run.path)
    say(f"report: {found.report}")
    return 0


def _with_trajectories(run: RunDir, found: Suspects, is_whole: bool) -> pa.Table:
    """The ranking with p_label by epoch: every epoch, or as many as a sparkline shows, which costs less."""
    from litscope.ledger.suspects import trajectories

    num = found.clock.num_epochs
    is_whole = is_whole or num <= LONGEST_CURVE
    ids = found.table["sample_id"].to_pylist()
    some = None if is_whole else [i * (num - 1) // (LONGEST_CURVE - 1) for i in range(LONGEST_CURVE)]
    paths = trajectories(run, ids, some)
    return found.table.append_column("trajectory", [[paths[i] for i in ids]])


def _suspects_lines(found: Suspects, rows: list[dict[str, Any]]) -> list[str]:
    columns = {
        "rank": "rank",
        "key": "key",
        "label_name": "label",
        "believed_name": "believed",
        "suspicion": SUSPICION,
        "p_label": "p(label)",
        "curve": _CURVE,
    }
    if any(row["status"] for row in rows):
        columns["status"] = "status"
    shown = [{**row, "curve": sparkline(row["trajectory"])} for row in rows]
    lines = table(shown, columns, curves=[_CURVE]) if shown else [f"No sample of {found.split} is left in the queue."]
    left = found.num_ranked - len(rows)
    return [*lines, f"... and {left:,} less suspicious"] if left else lines


def _draw_suspects(run: RunDir, found: Suspects, sheet: str | bool) -> None:
    from litscope.curation.sheet import SHEET_LIMIT, draw_samples

    path = run.figures / f"suspects-{found.split}.png" if sheet is True else Path(str(sheet))
    rows = found.table.slice(0, SHEET_LIMIT).to_pylist()

    def caption(row: dict[str, Any]) -> str:
        p_label = "unknown" if row["p_label"] is None else f"{row['p_label']:.3f}"
        facts = f"suspicion rank {row['suspicion']:.4f}\np(label) {p_label}, {found.split}"
        return f"{row['label_name']} → {row['believed_name']}?\n{facts}\n{row['key']}"

    def title(num_shown: int) -> str:
        of = f"{num_shown:,} of {found.num_ranked:,} in the queue"
        return f"{run.path.name}: suspected label errors of {found.split}, {of}, most suspicious first"

    drawn, notes = draw_samples(run, rows, caption, title, path, is_asked=sheet is not True)
    for note in notes:
        say(note)
    if drawn is not None:
        say(f"contact sheet: {drawn}")
