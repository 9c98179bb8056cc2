"""The service's answers for people at the console: tables, and curves in a line.

What comes from files (keys, names, notes) goes through `cell` and `table_lines`, or is printed by who shows a line as
one line; so nothing here can move the cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litscope.console import LONGEST_CURVE, cell, moment, number_of, sparkline, table_lines
from litscope.studio.acting import Requested
from litscope.studio.doors.console.typed import Verb
from litscope.studio.runs.comparison import Comparison
from litscope.studio.runs.curves import Curves
from litscope.studio.runs.journal import Action, JournalPage
from litscope.studio.runs.lines import RunLine
from litscope.studio.runs.pages import RunPage
from litscope.studio.samples.blocks import Block
from litscope.studio.samples.grid import Facets, Histogram, Row, Window
from litscope.studio.samples.review import Review
from litscope.studio.samples.sample import SamplePage
from litscope.studio.samples.sql_answers import SqlAnswer
from litscope.studio.samples.tables import Calibration, ClassTable, ConfusionTable
from litscope.studio.samples.values import Column
from litscope.studio.service import RunList, Session

WIDEST_BAR = 30
MOST_VISITS = 20
MOST_CELLS = 40
MOST_TAGS = 20
_SHADES = " ░▒▓█"


def lines_of(verb: str | None, found: Any) -> list[str]:
    """An answer as lines.

    Args:
        verb: what was asked.
        found: what the service answered.
    """
    if found is None:
        return ["It is not in that list."] if verb == "position" else []
    if isinstance(found, int):
        return [f"row {found + 1}" if verb == "position" else f"{found:,}"]
    if isinstance(found, list):
        return _verbs(found) if verb == "help" else _columns(found)
    show = _SHOWN.get(type(found).__name__)
    assert show is not None, type(found)
    return show(found)


# ---- runs --------------------------------------------------------------------------------------


def _runs(found: RunList) -> list[str]:
    if not found.runs:
        return [f"No runs in {', '.join(found.folders)}."]
    head = ["name", "state", "epochs", "metric", "best", "samples", "network", "data", "id"]
    rows = [
        [one.name, one.state, _epochs(one), one.metric, one.value, _total(one.num_samples), one.arch, one.data, one.id]
        for one in found.runs
    ]
    return table_lines(head, rows, right=["epochs"])


def _epochs(line: RunLine) -> str:
    return f"{line.epoch or 0}/{line.num_epochs}" if line.num_epochs else str(line.epoch or 0)


def _total(counts: Mapping[str, int] | None) -> int | None:
    return None if counts is None else sum(counts.values())


def _line(line: RunLine) -> list[str]:
    more = f" ({line.state_detail})" if line.state_detail else ""
    metric = f", {line.metric} {cell(line.value)}" if line.metric and line.value is not None else ""
    return [f"{line.name}: {line.state}{more}, {_epochs(line)} epochs{metric}"]


def _page(page: RunPage) -> list[str]:
    line = page.line
    facts = {
        "run": line.path,
        "state": f"{line.state}{f': {line.state_detail}' if line.state_detail else ''}",
        "epochs": _epochs(line),
        "step": line.step,
        "time left": None if line.time_left_s is None else f"about {line.time_left_s:.0f} s",
        line.metric or "metric": line.value,
        "samples": ", ".join(f"{name} {count:,}" for name, count in page.splits.items()),
        "classes": len(page.classes),
        "edited": f"{page.num_discarded:,} discarded, {page.num_relabelled:,} relabelled, "
        f"{page.num_reweighted:,} reweighted",
        "tags": _tags(page.tags),
        "pause": "asked for" if page.is_paused.requested and not page.is_paused.applied else None,
    }
    lines = [f"{name:<12}  {cell(value)}" for name, value in facts.items() if value not in (None, "")]
    if page.settings:
        rows = [[one.name, one.applied, one.requested, one.state, one.reason, one.allowed] for one in page.settings]
        lines += ["", *table_lines(["setting", "applied", "requested", "state", "reason", "allowed"], rows)]
    closed = [f"{name}: {why}" for name, why in page.controls.items() if why]
    notes = [*page.notes, *([page.edited_evaluation.warning] if page.edited_evaluation.warning else [])]
    return [*lines, *(["", *closed] if closed else []), *(["", *notes] if notes else [])]


def _tags(tags: Mapping[str, int]) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(tags.items())[:MOST_TAGS]]
    return ", ".join([*shown, *([f"and {len(tags) - MOST_TAGS:,} more"] if len(tags) > MOST_TAGS else [])])


def _session(found: Session) -> list[str]:
    may = "may only look" if found.is_read_only else "may act"
    return [f"litscope {found.version}, as {found.user}, who {may}"]


def _curves(found: Curves) -> list[str]:
    rows = []
    for name, one in found.series.items():
        known = [y for y in one.y if y is not None]
        low, high = (min(known), max(known)) if known else (None, None)
        last = next((y for y in reversed(one.y) if y is not None), None)
        rows.append([name, len(one.x), one.x[-1] if one.x else None, last, low, high, _curve(one.y, low, high)])
    head = ["name", "points", f"last {found.x}", "last", "lowest", "highest", "curve"]
    marks = [[cell(mark.x), mark.what, mark.status, mark.text] for mark in found.marks]
    events = ["", *table_lines([found.x, "what", "status", "text"], marks, right=[found.x])] if marks else []
    return [*table_lines(head, rows, curves=["curve"]), *events] if rows else ["Nothing was logged yet."]


def _curve(values: Sequence[float | None], low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "·" * min(len(values), LONGEST_CURVE)
    span = (high - low) or 1.0
    return sparkline([None if y is None else (y - low) / span for y in values])


def _journal(found: JournalPage) -> list[str]:
    if not found.actions:
        return ["Nothing was asked of this run."]
    rows = [[one.id, moment(one.asked_at), one.text, one.why, _status(one), one.who] for one in found.actions]
    lines = table_lines(["id", "when", "what", "why", "status", "who"], rows)
    if found.has_more:
        lines.append(f"{found.total:,} in all; older ones: journal --before {found.actions[-1].id}")
    return lines


def _status(action: Action) -> str:
    where = f", step {action.step}" if action.step is not None else ""
    return f"{action.status}{where}{f': {action.reason}' if action.reason else ''}"


def _comparison(found: Comparison) -> list[str]:
    names = [line.name for line in found.runs]
    head = ["", *(name if names.count(name) == 1 else line.id for name, line in zip(names, found.runs, strict=True))]
    lines = table_lines(head, [["state", *(line.state for line in found.runs)]])
    for title, differing in (("settings that differ", found.settings), ("metrics", found.metrics)):
        if differing:
            lines += ["", *table_lines([title, *head[1:]], [[one.name, *one.values] for one in differing])]
    for fate, one in (found.fates or {}).items():
        lines += ["", f"{fate.replace('_', ' ')}: {number_of(one.num_samples, 'sample')}"]
        lines += [f"  {cell(sample.get('key'))}" for sample in one.samples]
    return [*lines, *found.notes]


# ---- samples -----------------------------------------------------------------------------------


def _window(found: Window) -> list[str]:
    if not found.rows:
        return [f"No sample here; the list has {found.total:,}." if found.total else "No sample meets that."]
    lines = _rows(found.rows)
    last = found.start + len(found.rows)
    stale = "" if found.is_current else "; values have changed since: `list` again"
    more = "; `more` has the next" if last < found.total else ""
    return [*lines, f"rows {found.start + 1:,} to {last:,} of {found.total:,}{more}{stale}"]


def _rows(rows: Sequence[Row]) -> list[str]:
    values = list(dict.fromkeys(name for row in rows for name in row.values))
    has_curve = any(row.sparkline is not None for row in rows)
    head = [*(["row"] if rows[0].position >= 0 else []), "id", "key", "split", "label", "prediction", *values]
    head += ["curve", "decided"] if has_curve else ["decided"]
    table = [
        [
            *([row.position + 1] if rows[0].position >= 0 else []),
            *(row.sample_id, row.key, row.split, _label(row), row.pred_name),
            *(row.values.get(name) for name in values),
            *([sparkline(row.sparkline or [])] if has_curve else []),
            _decided(row),
        ]
        for row in rows
    ]
    return table_lines(head, table, curves=["curve"])


def _label(row: Row) -> str | None:
    if row.current_name == row.label_name or row.current_name is None:
        return row.label_name
    return f"{row.label_name} → {row.current_name}"


def _decided(row: Row) -> str:
    parts = [*(["discarded"] if row.is_discarded else []), *([f"×{row.weight:g}"] if row.weight != 1 else [])]
    parts += [f"#{tag}" for tag in row.tags]
    return " ".join([*parts, *(f"({verb} asked for)" for verb in row.pending)])


def _columns(found: Sequence[Column]) -> list[str]:
    rows = [[one.name, one.kind, one.group, ", ".join((one.values or [])[:20]), one.meaning] for one in found]
    return table_lines(["column", "kind", "group", "values", "meaning"], rows)


def _facets(found: Facets) -> list[str]:
    rows = [[one.value, one.num_samples, _bar(one.num_samples, found.values[0].num_samples)] for one in found.values]
    others = [f"{found.num_others:,} samples have another value, or none"] if found.num_others else []
    return [*table_lines([found.by, "samples", ""], rows), *others]


def _histogram(found: Histogram) -> list[str]:
    most = max(found.counts, default=0)
    rows = [
        [cell(low), cell(high), count, _bar(count, most)]
        for low, high, count in zip(found.edges[:-1], found.edges[1:], found.counts, strict=True)
    ]
    missing = [f"{found.num_missing:,} samples have no value"] if found.num_missing else []
    return [*table_lines(["from", "to", "samples", found.column], rows, right=["from", "to"]), *missing]


def _bar(count: int, most: int) -> str:
    return "█" * max(round(WIDEST_BAR * count / most), 1) if count and most else ""


def _sample(page: SamplePage) -> list[str]:
    row = page.sample
    facts = {"id": row.sample_id, "key": row.key, "split": row.split, "label": _label(row)}
    facts |= {"prediction": row.pred_name, "believed": row.believed_name, "decided": _decided(row)}
    facts["image"] = None if page.image is None else f"{page.image.width} × {page.image.height}"
    facts["p(label)"] = sparkline(row.sparkline or [])
    lines = [f"{name:<12}  {cell(value)}" for name, value in facts.items() if value not in (None, "")]
    if page.features:
        lines += ["", *table_lines(["feature", "value"], [[one.name, one.value] for one in page.features])]
    rows = [[one.name, one.value, one.rank, one.meaning] for one in page.scores if one.value is not None]
    lines += ["", *table_lines(["score", "value", "rank", "meaning"], rows)] if rows else []
    visits = page.visits
    if visits["epoch"]:
        names = ("step", "phase", "label_name", "pred_name", "loss", "p_label")
        shown = [
            [epoch + 1, *(visits[name][i] for name in names)]
            for i, epoch in list(enumerate(visits["epoch"]))[-MOST_VISITS:]
        ]
        left = len(visits["epoch"]) - len(shown)
        lines += ["", *table_lines(["epoch", *names], shown), *([f"{left:,} earlier visits"] if left else [])]
    if page.actions:
        lines += ["", *_journal(JournalPage(page.actions, False, len(page.actions)))]
    if page.neighbours:
        near = [[one.sample_id, one.key, one.label_name, one.distance] for one in page.neighbours]
        lines += ["", *table_lines(["most alike", "key", "label", "distance"], near)]
    return lines


def _review(found: Review) -> list[str]:
    head = ["rank", "id", "key", "label", "believed", "p(label)", "curve", "why"]
    rows = [
        [
            *(one.rank, one.sample.sample_id, one.sample.key, _label(one.sample), one.sample.believed_name),
            *(one.p_label, sparkline(one.sample.sparkline or []), one.why),
        ]
        for one in found.items
    ]
    table = table_lines(head, rows, curves=["curve"]) if rows else ["Nothing is left to look at."]
    precision = [found.precision.text] if found.precision else []
    warning = [found.warning] if found.warning else []
    judge = ["A wrong label: relabel ID --to believed. A right one: tag ok ID."] if rows else []
    return [*table, f"{found.num_left:,} left", *precision, found.stop.sentence, *found.sentences, *warning, *judge]


def _map(found: Block) -> list[str]:
    facts = found.facts
    if facts["mode"] == "points":
        return [f"{facts['num_in_view']:,} samples in view"]
    width, height, counts = facts["width"], facts["height"], found.columns["count"].tolist()
    most = max(counts, default=0)
    x, y = facts["x"], facts["y"]
    shades = "".join(_SHADES[-(-count * (len(_SHADES) - 1) // most)] if count else " " for count in counts)
    drawn = [f"│{shades[i * width : (i + 1) * width]}" for i in reversed(range(height))]
    low, high = cell(float(x["low"])), cell(float(x["high"]))
    return [
        f"{y['name']}, {cell(float(y['low']))} to {cell(float(y['high']))}, upwards",
        *drawn,
        f"└{'─' * width}",
        f"{low}{x['name'].center(max(width - len(low) - len(high), 0))}{high}",
        f"{facts['num_in_view']:,} samples in view, at most {most:,} in a place",
    ]


def _confusion(found: ConfusionTable) -> list[str]:
    names = found.classes
    wrong = sorted((one for one in found.cells if one[0] != one[1]), key=lambda one: -one[2])
    rows = [[names[label], names[pred], count] for label, pred, count in wrong[:MOST_CELLS]]
    right = sum(count for label, pred, count in found.cells if label == pred)
    accuracy = "" if found.accuracy is None else f", {100 * found.accuracy:.1f} %"
    table = table_lines(["label", "taken for", "samples"], rows) if rows else []
    more = [f"{len(wrong) - MOST_CELLS:,} more pairs"] if len(wrong) > MOST_CELLS else []
    return [*table, *more, f"{right:,} of {found.num_samples:,} are right{accuracy}"]


def _classes(found: ClassTable) -> list[str]:
    head = ["class", "samples", "in training", "recall", "precision", "f1", "loss", "taken for", "times"]
    rows = [
        [
            *(one.name, one.num_samples, one.num_train, one.recall, one.precision, one.f1, one.mean_loss),
            *(one.most_taken_for, one.num_taken_for),
        ]
        for one in found.rows
    ]
    return table_lines(head, rows)


def _calibration(found: Calibration) -> list[str]:
    rows = [[one.confidence, one.accuracy, one.count] for one in found.bins]
    return [*(table_lines(["says", "is right", "samples"], rows) if rows else []), found.sentence]


def _sql(found: SqlAnswer) -> list[str]:
    cut = [f"{len(found.rows):,} of {found.num_rows:,} rows are shown"] if found.is_cut else []
    return [*table_lines([one["name"] for one in found.columns], found.rows), *cut]


# ---- acting, help ------------------------------------------------------------------------------


def _requested(found: Requested) -> list[str]:
    counts = ", ".join(f"{split} {count:,}" for split, count in found.num_samples.items())
    about = f" ({counts})" if counts else ""
    warning = [f"warning: {found.warning}"] if found.warning else []
    if found.action is None:
        return [*warning, f"It would be about{about or ' the run'}. {found.sentence}"]
    action = found.action
    lines = [*warning, f"{action.id}  {action.text}{about}"]
    if action.status == "pending":
        return [*lines, found.sentence]
    note = f". {action.note}" if action.note else ""
    lines.append(f"{_status(action)}{note}")
    metrics = (action.result or {}).get("metrics")
    if isinstance(metrics, Mapping):
        lines += [f"  {name:<20} {cell(value)}" for name, value in metrics.items()]
    return lines


def _verbs(found: Sequence[Verb]) -> list[str]:
    width = max(len(one.name) for one in found)
    return [*(f"{one.name:<{width}}  {one.doc}" for one in found), "", "`help VERB` tells how one is used."]


def _verb(found: Verb) -> list[str]:
    lines = [found.usage(), "", found.doc]
    if found.also:
        lines.append(f"Also: {', '.join(found.also)}.")
    options = [(one.flag, one.help) for one in found.options if one.help]
    width = max((len(flag) for flag, _ in options), default=0)
    return [*lines, *([""] if options else []), *(f"  {flag:<{width}}  {text}" for flag, text in options)]


_SHOWN: dict[str, Callable[[Any], list[str]]] = {
    "RunList": _runs,
    "RunLine": _line,
    "RunPage": _page,
    "Session": _session,
    "Curves": _curves,
    "JournalPage": _journal,
    "Comparison": _comparison,
    "Window": _window,
    "Facets": _facets,
    "Histogram": _histogram,
    "SamplePage": _sample,
    "Review": _review,
    "Block": _map,
    "ConfusionTable": _confusion,
    "ClassTable": _classes,
    "Calibration": _calibration,
    "SqlAnswer": _sql,
    "Requested": _requested,
    "Verb": _verb,
    "Typical": lambda found: _rows(found.rows) if found.rows else [f"{found.label}: none is known."],
    "Saved": lambda found: [f"{found.num_bytes:,} bytes: {found.file}"],
}
"""How the answer of each kind is shown."""
