"""Commands that act on samples of a run: each writes one action into its journal. They need neither torch nor a port.

Without RUN, the newest run below runs/ is taken, and a line says so. What cannot be right is refused
here, before it reaches the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from litscope.commands.choose import NUM_SHOWN, add_samples, find_run, names_a_run
from litscope.commands.line import Parser, make_parser, parse, show_json, stdout_for_result, write, write_lines
from litscope.commands.send import add_answer, add_run, send
from litscope.console import table_lines
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.curation.chosen import Chosen


def discard(argv: list[str]) -> int:
    """Leave samples out of the run, from the next batch on."""
    given, as_json = _parse_samples(make_parser(discard), argv)
    from litscope.curation.chosen import require_rest, warn_of_evaluation

    chosen = _chosen(given)
    warn_of_evaluation(chosen)
    require_rest(chosen)
    return _act("discard", chosen, given, as_json)


def restore(argv: list[str]) -> int:
    """Take discarded samples back in."""
    given, as_json = _parse_samples(make_parser(restore), argv)
    from litscope.curation.chosen import warn_of_evaluation

    chosen = _chosen(given)
    warn_of_evaluation(chosen)
    return _act("restore", chosen, given, as_json)


def relabel(argv: list[str]) -> int:
    """Give samples another label; the data set itself is not changed."""
    parser = make_parser(relabel)
    parser.add_argument(
        "--to",
        required=True,
        metavar="CLASS",
        help="a class name; `believed`: the class that the model believes each to be",
    )
    given, as_json = _parse_samples(parser, argv)
    from litscope.curation.chosen import label_argument, relabelled, warn_of_evaluation

    chosen, labels = relabelled(_chosen(given), given["to"], save=not given["dry_run"])
    warn_of_evaluation(chosen)
    return _act("relabel", chosen, given, as_json, labels, label=label_argument(labels))


def reweight(argv: list[str]) -> int:
    """Multiply the loss of samples by a weight."""
    parser = make_parser(reweight)
    parser.add_argument("--weight", type=float, required=True, help="0 (no influence) or more; 1 is the default")
    given, as_json = _parse_samples(parser, argv)
    return _act("reweight", _chosen(given), given, as_json, weight=given["weight"])


def tag(argv: list[str]) -> int:
    """Give samples a name by which they can be found, evaluated or exported."""
    return _tag("tag", make_parser(tag), argv)


def untag(argv: list[str]) -> int:
    """Take a tag away from samples."""
    return _tag("untag", make_parser(untag), argv)


def _tag(what: str, parser: Parser, argv: list[str]) -> int:
    parser.usage = f"litscope {what} [RUN] NAME [options]"
    parser.add_argument("words", nargs="+", metavar="[RUN] NAME", help="a run (default: the newest) and the tag")
    given, as_json = _parse_samples(parser, argv, has_run=False)
    *run, name = given.pop("words")
    if len(run) > 1 or (not run and names_a_run(name)):
        raise ConfigError(f"Give one tag, preceded by the run if it is not the newest: litscope {what} RUN NAME ...")
    given["run"] = run[0] if run else None
    chosen = _chosen(given)
    if what == "untag":
        from litscope.curation.chosen import require_tag

        require_tag(chosen.run, name)
    return _act(what, chosen, given, as_json, tag=name)


def _parse_samples(parser: Parser, argv: list[str], has_run: bool = True) -> tuple[dict[str, Any], bool]:
    if has_run:
        add_run(parser)
    add_samples(parser)
    add_answer(parser)
    return parse(parser, argv)


def _chosen(given: dict[str, Any]) -> Chosen:
    from litscope.curation.chosen import choose

    return choose(find_run(given["run"]), given["where"], given["key"], given["id"])


def _act(
    what: str, chosen: Chosen, given: dict[str, Any], as_json: bool, labels: Sequence[str] | None = None, **more: Any
) -> int:
    """Write an action about samples; with --dry-run, only show them."""
    from litscope.ledger.journal.actions import request

    action = request(what, why=given["note"], **chosen.arguments, **more)
    with stdout_for_result() as out:
        if not given["dry_run"]:
            return send(chosen.run, action, given["wait"], as_json, out, chosen.by_split())
    _show_samples(what, chosen, labels, as_json, out)
    return 0


def _show_samples(what: str, chosen: Chosen, labels: Sequence[str] | None, as_json: bool, out: TextIO) -> None:
    if as_json:
        facts = {"what": what, "num_samples": chosen.counts()}
        show_json(facts | {"samples": chosen.rows(labels)}, out, chosen.run.path)
        return
    from litscope.curation.chosen import count_of

    shown = chosen.only(slice(NUM_SHOWN)).rows(None if labels is None else labels[:NUM_SHOWN])
    write(f"would {what} {count_of(len(chosen.ids))} ({chosen.by_split()}); nothing is written", out)
    write_lines(table_lines(list(shown[0]), [list(row.values()) for row in shown]), out)
    if len(chosen.ids) > NUM_SHOWN:
        write(f"... and {len(chosen.ids) - NUM_SHOWN:,} more", out)
