"""The report of one run: summary, curves, what it does well, its suspects, its journal, its recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from litscope.addresses import scrubbed
from litscope.console import number_of, shell_word
from litscope.errors import LitscopeError
from litscope.studio.report.markup import Html, Section, element, figure, folded, joined, missing, settings_alone, table
from litscope.studio.report.of_curves import curve_figures
from litscope.studio.report.of_samples import calibration_figures, class_figures, confusion_figures, map_figure
from litscope.studio.report.of_suspects import suspect_cards
from litscope.studio.report.plots import number
from litscope.studio.runs.journal import Action
from litscope.studio.runs.pages import RunPage
from litscope.studio.service import Studio

MOST_ACTIONS = 300
MOST_RECIPE = 100_000
"""Characters that are shown."""

_UNREADABLE = (LitscopeError, OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException)


def run_sections(studio: Studio, run: str) -> tuple[Html, list[Section], list[str]]:
    """The head of a run's report, its parts, and what is missing from it.

    Args:
        studio: over the run.
        run: its id.
    """
    page = studio.page(run)
    lacking: list[str] = list(page.notes)

    def tried(what: str, make: Callable[[], Html]) -> Html:
        try:
            return make()
        except _UNREADABLE as error:
            reason = scrubbed(str(error))
            lacking.append(f"{what}: {reason}")
            return missing(reason)

    splits = judged_splits(page)
    parts = [
        Section("summary", "Summary", joined(_figures(page), _metrics(page))),
        Section("curves", "Curves", tried("Curves", lambda: curve_figures(studio, run, page))),
        Section("confusion", "Confusion", tried("Confusion", lambda: confusion_figures(studio, run, splits))),
        Section("classes", "Classes", tried("Classes", lambda: class_figures(studio, run, splits))),
        Section("calibration", "Calibration", tried("Calibration", lambda: calibration_figures(studio, run, splits))),
        Section("map", "Data map", tried("Data map", lambda: map_figure(studio, run))),
        Section("suspects", "Suspected label errors", tried("Suspects", lambda: suspect_cards(studio, run, page))),
        Section("journal", "Journal", tried("Journal", lambda: _journal(studio, run))),
        Section("recipe", "Recipe", _recipe(page)),
    ]
    return _head(page, lacking), parts, lacking


def judged_splits(page: RunPage) -> list[str]:
    """The splits whose evaluation says how good the network is; where there is none, that it was trained on."""
    there = [split for split in ("val", "test") if page.splits.get(split)]
    return there or ["train"]


def _head(page: RunPage, lacking: Sequence[str]) -> Html:
    line = page.line
    told = [element("span", line.state, class_=f"state {line.state}"), " ", line.state_detail]
    facts = [line.data, line.arch, "recorded by litscope.watch" if line.is_watched else None]
    if line.started_at is not None:
        facts.append(f"started {_when(line.started_at)}")
    warnings = [page.edited_evaluation.warning] if page.edited_evaluation.warning else []
    notes = [element("p", scrubbed(one)) for one in [*warnings, *lacking]]
    return joined(
        element("p", " · ".join(scrubbed(str(fact)) for fact in facts if fact), class_="lead"),
        element("p", told),
        element("div", notes, class_="notes", role="note") if notes else None,
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _figures(page: RunPage) -> Html:
    """What is read first, in tiles."""
    line, summary = page.line, page.summary or {}
    tiles: list[tuple[str, object, str]] = []
    for name, value in line.best.items():
        where = " of the best epoch" if name == line.metric else ""
        tiles.append((f"{name}{where}", number(value), ""))
    epochs = "–" if line.epoch is None else f"{line.epoch:,}"
    steps = "" if line.step is None else f"{number_of(line.step, 'step')}"
    tiles.append(("epochs", epochs if line.num_epochs is None else f"{epochs} of {line.num_epochs:,}", steps))
    splits = page.splits or line.num_samples or {}
    detail = ", ".join(f"{split} {count:,}" for split, count in splits.items())
    tiles.append(("samples", f"{sum(splits.values()):,}" if splits else "–", detail))
    tiles.append(("classes", f"{len(page.classes):,}" if page.classes else number(line.num_classes), ""))
    if isinstance(summary.get("wall_s"), int | float):
        tiles.append(("training took", _duration(float(summary["wall_s"])), ""))
    decided = (
        (page.num_discarded, "discarded"), (page.num_relabelled, "relabelled"), (page.num_reweighted, "reweighted"),
    )  # fmt: skip
    if any(count for count, _ in decided):
        words = ", ".join(f"{count:,} {what}" for count, what in decided if count)
        tiles.append(("decided by people", f"{sum(count for count, _ in decided):,}", words))
    found = [
        element("div", element("dt", name), element("dd", value, element("small", more) if more else None))
        for name, value, more in tiles
    ]
    return element("dl", found, class_="tiles")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"


def _metrics(page: RunPage) -> Html:
    """The metrics of the best epoch, and of the last one if that is another."""
    found = (page.summary or {}).get("metrics")
    if not isinstance(found, dict):
        return element("p", "The run has no summary, so no metrics of a best epoch are known.", class_="missing")
    best, final = (_facts(found.get(name)) for name in ("best", "final"))
    metrics: dict[str, dict[str, float | None]] = {}
    for name, value in best.items():
        phase, _, metric = name.rpartition("/")
        metrics.setdefault(metric, {})[phase] = _float(value)
    phases = [one for one in ("train", "val", "test", "") if any(one in row for row in metrics.values())]
    is_last = all(final[name] == best.get(name) for name in final)
    rows = [(metric, *(number(row.get(phase)) for phase in phases)) for metric, row in metrics.items()]
    caption = "Metrics of the best epoch" + (", which is the last one" if is_last else "")
    return figure(
        caption, joined("The weights that ", element("code", "predict"), " and ", element("code", "export"), " use."),
        table(("metric", *(phase or "value" for phase in phases)), rows, caption, range(1, 1 + len(phases))),
        None if is_last else folded("The last epoch", _last(final)),
    )  # fmt: skip


def _last(final: dict[str, Any]) -> Html:
    rows = [(name, number(_float(value))) for name, value in final.items()]
    return table(("metric", "value"), rows, "Metrics of the last epoch", (1,))


def _facts(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _journal(studio: Studio, run: str) -> Html:
    found = studio.journal(run, MOST_ACTIONS)
    if not found.actions:
        return element("p", "Nobody asked anything of this run.", class_="soft")
    rows = [_action(one) for one in found.actions]
    more = f", the newest {len(rows):,} of {found.total:,}" if found.has_more else ""
    caption = f"What was asked of the run, the newest first{more}"
    return joined(
        element("p", f"{caption}.", class_="soft"),
        table(("when", "what", "who", "status", "epoch", "step"), rows, caption, (4, 5)),
    )


def _action(one: Action) -> tuple[object, ...]:
    why = [element("small", one.why, class_="soft")] if one.why else []
    said = [element("small", scrubbed(text), class_="soft") for text in (one.reason, one.note) if text]
    when = "–" if one.asked_at is None else _when(one.asked_at)
    epoch = "–" if one.epoch is None else f"{one.epoch + 1}"
    what = joined(one.text, [[element("br"), more] for more in why])
    status = joined(one.status, [[element("br"), more] for more in said])
    return when, what, one.who or "–", status, epoch, "–" if one.step is None else f"{one.step:,}"


def _recipe(page: RunPage) -> Html:
    path = shell_word(page.line.path)
    again = f"litscope fit --config {shell_word(f'{page.line.path}/recipe.yaml')}"
    environment = page.environment or {}
    rows = [(name, scrubbed(str(value))) for name, value in _flat(environment) if isinstance(value, str | int | bool)]
    settings = settings_alone(page.recipe)
    shown = settings[:MOST_RECIPE]
    cut = f"\n… and {len(settings) - len(shown):,} characters more" if len(settings) > len(shown) else ""
    return joined(
        element("p", "To train the same again: ", element("code", again), class_="soft"),
        element("p", "To look at every sample: ", element("code", f"litscope studio {path}"), class_="soft"),
        element("pre", scrubbed(shown), cut, tabindex="0", aria_label="The recipe") if shown
        else missing("the run has no recipe.yaml."),
        folded("The environment", table(("fact", "value"), rows, "Where it was trained")) if rows else None,
    )  # fmt: skip


def _flat(facts: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """The values of nested facts by names with dots."""
    found: list[tuple[str, Any]] = []
    for name, value in facts.items():
        found += _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(f"{before}{name}", value)]
    return found
