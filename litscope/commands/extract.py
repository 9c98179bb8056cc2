"""Commands that take something out of a run: an answer in SQL, a comparison, the curated data set, the trained network.

Only the last needs torch.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.commands.ask import warn_of_outdated
from litscope.commands.line import check_n, make_parser, parse, show_json, stdout_for_result, takes, write_lines
from litscope.commands.places import trained_run
from litscope.commands.text import table
from litscope.console import say
from litscope.defaults import NETWORK_FORMATS
from litscope.errors import ConfigError, did_you_mean
from litscope.rundir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

    from litscope.ledger.query import Limits


def sql(argv: list[str]) -> int:
    """Ask a run in SQL: one SELECT over its views (docs: SQL)."""
    parser = make_parser(sql)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "query", metavar="SELECT", help='one SELECT, such as "select split, count(*) from samples group by 1"'
    )
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop the query then (default: 60)")
    parser.add_argument(
        "--memory", type=float, metavar="GB", help="most memory of the query (default: a quarter of what there is)"
    )
    given, as_json = parse(parser, argv)
    if as_json and given["csv"]:
        raise ConfigError("--json and --csv: give one of them.")
    with stdout_for_result() as out:
        from litscope.ledger.encode import csv_lines, json_rows
        from litscope.ledger.views import sql as ask

        limits = _limits(given["timeout"], given["memory"])
        run = RunDir.open(given["run"])
        found = ask(run, given["query"], limits)
        warn_of_outdated(run, found.column_names)
    if as_json:
        show_json(json_rows(found), out, run.path)
    elif given["csv"]:
        out.writelines(csv_lines(found))
    else:
        _check_fits(found, limits)
        write_lines(table(found.to_pylist(), {name: name for name in found.column_names}), out)
    return 0


def _limits(timeout: float | None, memory: float | None) -> Limits:
    """What a query may take, as the flags say it.

    Raises:
        ConfigError: if one of them is no limit.
    """
    from litscope.ledger.query import GB, LEAST_BYTES, Limits

    if timeout is not None and not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ConfigError(f"--timeout {timeout:g}: it is a number of seconds above 0.")
    if memory is not None and not LEAST_BYTES <= memory * GB < 2**63:
        raise ConfigError(f"--memory {memory:g}: it is a number of gigabytes, at least {LEAST_BYTES / GB:g}.")
    seconds = Limits().seconds if timeout is None else timeout
    return Limits(seconds, None if memory is None else int(memory * GB), is_alone=True)


_BYTES_PER_CELL = 256
"""What a value costs as a Python object and as the text of an aligned table."""


def _check_fits(found: pa.Table, limits: Limits) -> None:
    """Refuse to align what the memory of the query could not hold as text."""
    if found.num_rows * found.num_columns * _BYTES_PER_CELL > limits.most_bytes:
        raise ConfigError(
            f"The answer has {found.num_rows:,} rows, too many to be aligned as a table: ask for less (LIMIT), or have "
            "them written row by row with --csv or --json."
        )


def compare(argv: list[str]) -> int:
    """Put two runs side by side: metrics, recipes, and the samples that fared differently."""
    parser = make_parser(compare)
    parser.add_argument("first", metavar="RUN", help="a run's folder")
    parser.add_argument("second", metavar="RUN", help="another one")
    parser.add_argument("-n", type=int, default=10, help="most samples to show of each kind (default: 10)")
    given, as_json = parse(parser, argv)
    check_n(given["n"])
    with stdout_for_result() as out:
        from litscope.ledger.compare import compare as set_side_by_side

        found = set_side_by_side(RunDir.open(given["first"]), RunDir.open(given["second"]), given["n"])
    if as_json:
        show_json(found, out)
    else:
        write_lines(_compare_lines(found), out)
    return 0


def _compare_lines(found: dict[str, Any]) -> list[str]:
    first, second = found["runs"]
    lines = [f"first: {first}", f"second: {second}"]
    for name in ("monitored", "metrics", "recipe"):
        rows = [{name: key, **values} for key, values in found[name].items()]
        titles = [name, "first", "second", *(["difference"] if name != "recipe" else [])]
        if name == "monitored" and not rows:
            continue
        lines += ["", *(table(rows, {t: t for t in titles}) if rows else [f"{name}: no difference"])]
    none = "" if found["num_common"] else "; samples are matched by their keys, and these runs have none in common"
    lines += ["", f"samples in both: {found['num_common']:,}{none}"]
    columns = {"key": "key", "split": "split", "label_second": "label"}
    predicted = {"pred_first": "first says", "pred_second": "second says"}
    for name, fate in found["fates"].items():
        if fate["num_samples"]:
            title = f"{name.replace('_', ' ')}: {fate['num_samples']:,}"
            lines += ["", title, *table(fate["samples"], {**columns, **predicted})]
    if found["suspicion"]:
        changed = {"suspicion_first": "in first", "suspicion_second": "in second"}
        title = "suspicion (a rank in the split, no probability) changed most"
        lines += ["", title, *table(found["suspicion"], {**columns, **changed})]
    return lines


def export(argv: list[str]) -> int:
    """Write the curated data set of a run, or its trained network, for other programs."""
    parser = make_parser(export)
    parser.add_argument("run", metavar="RUN", help="a run's folder; for a network, a checkpoint will do")
    to = parser.add_argument(
        "--to",
        required=True,
        help="the data set: csv, parquet, json, cleanlab, fiftyone, folder or actions; the network: onnx, pt2 or "
        "safetensors",
    )
    takes(to, *DATA_FORMATS, *NETWORK_FORMATS)
    parser.add_argument(
        "--output",
        "-o",
        metavar="PATH",
        help="the file or folder to write (default of a network: "
        "export/onnx/model.onnx in the run's folder, and so on)",
    )
    parser.add_argument("--checkpoint", help="of the network: best, last or a file (default: best)")
    parser.add_argument("--copy", action="store_true", help="folder, fiftyone: copy files (default: link them)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--dataset", help="where the data are now (default: where they were)")
    parser.add_argument("--data-dir", "--data-root", help="where named data sets are now")
    given, as_json = parse(parser, argv)
    if given["to"] in NETWORK_FORMATS:
        return _export_network(given, as_json)
    if given["to"] not in DATA_FORMATS:
        known = (*DATA_FORMATS, *NETWORK_FORMATS)
        raise ConfigError(f"--to {given['to']}: choose {', '.join(known)}.{did_you_mean(given['to'], known)}")
    if given["checkpoint"] is not None:
        raise ConfigError(
            f"--checkpoint says whose weights leave; --to {given['to']} writes the data set. Leave it out, or use --to "
            f"{', '.join(NETWORK_FORMATS)}."
        )
    if given["output"] is None:
        raise ConfigError(f"--to {given['to']} writes the data set where --output says. Give --output PATH.")
    with stdout_for_result() as out:
        from litscope.curation.export import Wanted
        from litscope.curation.export import export as write_export

        wanted = Wanted(
            RunDir.open(given["run"]),
            Path(given["output"]),
            dataset=given["dataset"],
            data_dir=given["data_dir"],
            is_copied=given["copy"],
            overwrite=given["overwrite"],
        )
        found = write_export(wanted, given["to"])
    if as_json:
        show_json(found.to_dict(), out, wanted.run.path)
    else:
        for line in found.lines():
            say(line)
    return 0


DATA_FORMATS = ("csv", "parquet", "json", "cleanlab", "fiftyone", "folder", "actions")
"""Forms of the data set; `curation.export.FORMATS` writes them."""


def _export_network(given: dict[str, Any], as_json: bool) -> int:
    if given.pop("copy"):
        raise ConfigError(f"--copy is for --to folder and fiftyone, which hold images; --to {given['to']} holds none.")
    given["checkpoint"] = given["checkpoint"] or "best"
    run = trained_run(given)
    if given["output"] is None:
        to = given["to"]
        given["output"] = (Path() if run is None else run / "export" / to) / f"model.{to}"
    with stdout_for_result() as out:
        from litscope.delivery.deliver import export_model

        found = export_model(**given)
    if as_json:
        show_json(found.to_dict(), out, run)
    else:
        for line in found.lines():
            say(line)
    return 0
