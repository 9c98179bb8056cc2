"""What each verb of the console asks of the service. No logic: arguments are put in their places, answers handed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litscope.ledger.journal.verbs import typed_setting
from litscope.runs import WAIT_S
from litscope.studio.acting import ABOUT_SAMPLES, Asked, Requested, What
from litscope.studio.doors.console.verbs import ALL, VERBS
from litscope.studio.refusals import AskedWrong
from litscope.studio.runs.journal import Action
from litscope.studio.runs.lines import RunLine
from litscope.studio.samples.blocks import Block
from litscope.studio.samples.grid import Row, Window
from litscope.studio.samples.maps import Looked
from litscope.studio.samples.pictures import as_side
from litscope.studio.samples.selection import Selection
from litscope.studio.samples.values import Column

if TYPE_CHECKING:
    from litscope.studio.doors.console.session import Console

Given = dict[str, Any]

NUM_ROWS = 20
"""Of a list, where nobody says how many."""

LOOK_S = 0.2
"""Between two looks for the trainer's answer."""

MOST_WAIT_S = 86_400


@dataclass(frozen=True)
class Saved:
    """A picture that was written into a file."""

    file: str
    media_type: str
    num_bytes: int


@dataclass(frozen=True)
class Typical:
    """Typical samples of a class."""

    label: str
    rows: list[Row]


def answer(console: Console, verb: str, given: Given) -> Any:
    """The answer to a verb; errors are those of the service.

    Args:
        console: who asks.
        verb: its first name.
        given: as `typed.parse` found them.
    """
    if verb in ACTS:
        return _acted(console, verb, given)
    return _QUESTIONS[verb](console, given)


# ---- looking -----------------------------------------------------------------------------------


def _use(console: Console, given: Given) -> RunLine:
    console.use(given["run"])
    found: RunLine = console.ask("line")
    return found


def _columns(console: Console, given: Given) -> list[Column]:  # noqa: ARG001
    found: list[Column] = console.ask("page").columns
    return found


def _curves(console: Console, given: Given) -> Any:
    return console.ask("curves", **given)


def _journal(console: Console, given: Given) -> Any:
    return console.ask("journal", limit=given.get("count", NUM_ROWS), before=given.get("before"))


def _compare(console: Console, given: Given) -> Any:
    return console.studio.compare([console.find_run(name).id for name in given["runs"]])


def _list(console: Console, given: Given) -> Window:
    first = given.get("from", 1)
    if first < 1:
        raise AskedWrong(f"--from {first}: rows are numbered from 1.", "from")
    found: Window = console.ask(
        "samples",
        filter=given.get("filter", ""),
        sort=given.get("sort", ""),
        start=first - 1,
        count=given.get("count", NUM_ROWS),
        columns=[name for word in given.get("columns", ()) for name in word.split(",") if name],
        sparklines=given.get("sparklines", False),
        view=given.get("view"),
    )
    console.window = found
    return found


def _more(console: Console, given: Given) -> Window:
    last = console.last_window()
    count = given.get("count", max(len(last.rows), 1))
    found: Window = console.ask("samples", start=last.start + len(last.rows), count=count, view=last.view)
    console.window = found
    return found


def _worst(console: Console, given: Given) -> Window:
    by, split = given.get("by", "mean_loss"), given.get("split", "train")
    column = next((one for one in console.ask("page").columns if one.name == by), None)
    minus = "" if column is not None and column.is_high_bad is False else "-"
    condition = f"split = {split}" + (f" and ({given['filter']})" if given.get("filter") else "")
    return _list(console, {"filter": condition, "sort": f"{minus}{by}", "count": given.get("count", NUM_ROWS)})


def _position(console: Console, given: Given) -> int | None:
    view = given.get("view") or console.last_window().view
    found: int | None = console.ask("position", view=view, sample_id=console.find_sample(given["sample"]))
    return found


def _sample(console: Console, given: Given) -> Any:
    return console.ask("sample", sample_id=console.find_sample(given["sample"]))


def _image(console: Console, given: Given) -> Saved:
    sample_id = console.find_sample(given["sample"])
    console.check("image", given)
    picture = console.ask("image", sample_id=sample_id, side=as_side(given.get("side")))
    path = Path(given["file"]).expanduser()
    try:
        with path.open("xb") as file:
            file.write(picture.content)
    except FileExistsError as error:
        raise AskedWrong(f"{path} is there already. Give the name of a new file.", "file") from error
    return Saved(str(path), picture.media_type, len(picture.content))


def _review(console: Console, given: Given) -> Any:
    return console.ask("review", **given)


def _typical(console: Console, given: Given) -> Typical:
    ids = console.ask("typical", **given)
    return Typical(given["label"], console.rows(ids))


def _map(console: Console, given: Given) -> Block:
    asked = {"x": "variability", "y": "confidence", "width": 60, "height": 20, "max_points": 0, "color": "", **given}
    console.check("map", asked)
    found: Block = console.ask("map", look=Looked(**asked))
    return found


def _plainly(method: str) -> Callable[[Console, Given], Any]:
    return lambda console, given: console.ask(method, **given)


def _help(console: Console, given: Given) -> Any:  # noqa: ARG001
    if "verb" not in given:
        return list(ALL)
    if given["verb"] not in VERBS:
        raise AskedWrong(f"{given['verb']!r} is no command of the console. `help` lists them.", "verb")
    return VERBS[given["verb"]]


def _exit(console: Console, given: Given) -> None:  # noqa: ARG001
    console.is_over = True


_QUESTIONS: dict[str, Callable[[Console, Given], Any]] = {
    "runs": lambda console, _: console.studio.runs(),
    "use": _use,
    "session": lambda console, _: console.studio.session(),
    "status": _plainly("page"),
    "columns": _columns,
    "curves": _curves,
    "journal": _journal,
    "compare": _compare,
    "list": _list,
    "more": _more,
    "count": _plainly("count"),
    "position": _position,
    "worst": _worst,
    "facets": _plainly("facets"),
    "histogram": _plainly("histogram"),
    "sample": _sample,
    "image": _image,
    "review": _review,
    "typical": _typical,
    "map": _map,
    "confusion": _plainly("confusion"),
    "classes": _plainly("classes"),
    "calibration": _plainly("calibration"),
    "sql": _plainly("sql"),
    "help": _help,
    "exit": _exit,
}

# ---- acting ------------------------------------------------------------------------------------

ACTS: dict[str, What] = {
    "tag": "tag",
    "untag": "untag",
    "discard": "discard",
    "restore": "restore",
    "relabel": "relabel",
    "reweight": "reweight",
    "set": "set",
    "lr": "set",
    "pause": "pause",
    "resume": "resume",
    "checkpoint": "checkpoint",
    "stop": "stop",
    "evaluate": "evaluate",
    "undo": "undo",
}


def _acted(console: Console, verb: str, given: Given) -> Requested:
    what, settings = ACTS[verb], None
    if what == "set":
        words = [f"lr={given['lr']}"] if verb == "lr" else given["settings"]
        settings = dict(map(typed_setting, words))
    wait_s = given.get("wait")
    if wait_s is not None and not 0 <= wait_s <= MOST_WAIT_S:
        raise AskedWrong(f"--wait {wait_s:g}: it is 0 to {MOST_WAIT_S:,} seconds.", "wait")
    console.check("act", {name: given[name] for name in ("to", "weight", "tag", "split", "action") if name in given})
    asked = Asked(
        what,
        note=given.get("note", ""),
        dry_run=given.get("dry_run", False),
        samples=_selection(console, given) if what in ABOUT_SAMPLES else None,
        label=given.get("to"),
        weight=given.get("weight"),
        tag=given.get("tag"),
        settings=settings,
        split=given.get("split"),
        schedule="schedule" in given,
        action=given.get("action"),
    )
    return _with_answer(console, console.ask("act", asked=asked), wait_s)


def _selection(console: Console, given: Given) -> Selection:
    named = [*given.get("samples", ()), *given.get("key", ())]
    view = given.get("view")
    if given.get("rows") and view is None:
        view = console.last_window().view
    return Selection(
        ids=[*given.get("id", ()), *map(console.find_sample, named)],
        view=view,
        ranges=given.get("rows", []),
        without=given.get("without", []),
        filter=given.get("where"),
    )


def _with_answer(console: Console, asked: Requested, wait_s: float | None) -> Requested:
    """What was asked, with the trainer's answer, if it comes in time."""
    if asked.action is None:
        return asked
    if wait_s is None:
        wait_s = WAIT_S if console.ask("line").state in ("running", "paused") else 0.0
    ends_at = time.monotonic() + wait_s
    while time.monotonic() < ends_at:
        time.sleep(LOOK_S)
        found = _action(console, asked.action.id)
        if found is not None and found.status != "pending":
            return replace(asked, action=found, sentence="")
    return asked


def _action(console: Console, name: str) -> Action | None:
    return next((one for one in console.ask("journal", limit=200).actions if one.id == name), None)
