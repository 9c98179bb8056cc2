"""The report of a search for settings (`litscope tune`): how it went, and what its settings are good for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.addresses import scrubbed
from litscope.console import cell, shell_word
from litscope.errors import RunError
from litscope.rundir import read_lines
from litscope.runs import SEARCH, TRIALS
from litscope.studio.report.markup import Html, Section, element, figure, folded, joined, missing, settings_alone, table
from litscope.studio.report.plots import Axis, Curve, Frame, Points, axis, bars, legend, number, parallel

BEST = "best.yaml"
_LUCK = "The best of many is partly lucky: measure it on data that the search has not seen."
FAR = 3.0
"""Trials that are worse than the worse quarter by more than so many times the spread of the middle half are drawn at
the edge: one that diverges would flatten all others."""
FEWEST_FAR = 8
"""Trials with a value of which that can be said."""


@dataclass(frozen=True)
class Search:
    """A search as its folder tells it.

    Attributes:
        metric, mode: by which trials are judged; the value, and min, where the search is not over.
        trials: lines of trials.jsonl.
        space: name, choices and is_log of each setting.
        importance: shares by name; None where nothing is known of them.
        dataset: what was trained on; None where the search is not over.
        lacking: what is missing.
    """

    metric: str
    mode: str
    trials: list[dict[str, Any]]
    space: list[dict[str, Any]]
    importance: dict[str, float] | None
    dataset: str | None
    lacking: list[str]

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The trials with a value, the best first; without what tells which end is good, in their order."""
        known = [trial for trial in self.trials if isinstance(trial.get("value"), int | float)]
        sign = {"max": -1, "min": 1}.get(self.mode, 0)
        return sorted(known, key=lambda trial: (sign * trial["value"], trial["number"]))

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial, where it is known what good is."""
        return self.ranked[0] if self.mode and self.ranked else None


def read_search(folder: Path) -> Search:
    """What a search has found so far.

    Raises:
        RunError: if what it wrote cannot be read.
    """
    trials = [
        line for line in read_lines(folder / TRIALS) if isinstance(line.get("settings"), dict) and "number" in line
    ]
    trials.sort(key=lambda trial: trial["number"])
    file = folder / SEARCH
    if not file.exists():
        names = dict.fromkeys(name for trial in trials for name in trial["settings"])
        lacking = [f"There is no {SEARCH}: the search is not over, or older. What a good value is, is not known."]
        space = [_guessed(name, [trial["settings"].get(name) for trial in trials]) for name in names]
        return Search("value", "", trials, space, None, None, lacking)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        lines = found["trials"] if len(found["trials"]) >= len(trials) else trials
        known = found["metric"], found["mode"], lines, found["space"], found["importance"], found["dataset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{file} cannot be read: {error!r}. The same `litscope tune` with --run-dir writes it."
        ) from error
    return Search(*known, [] if len(found["trials"]) >= len(trials) else [f"{SEARCH} is older than {TRIALS}."])


def _guessed(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A setting of which only values are known."""
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not are_numbers:
        return {"name": name, "choices": list(dict.fromkeys(values)), "is_log": False}
    is_log = min(values) > 0 and max(values) > 20 * min(values)
    return {"name": name, "choices": [], "is_log": is_log}


def search_sections(folder: Path) -> tuple[Html, list[Section], list[str]]:
    """The head of a search's report, its parts, and what is missing; errors as `read_search`."""
    found = read_search(folder)
    stopped = sum(trial.get("stopped_after") is not None for trial in found.trials)
    failed = sum(trial.get("value") is None for trial in found.trials)
    facts = [found.dataset, f"{len(found.trials)} trials", f"{stopped} stopped early", f"{failed} failed"]
    notes = [element("p", one) for one in found.lacking]
    head = joined(
        element("p", " · ".join(scrubbed(str(fact)) for fact in facts if fact), class_="lead"),
        element("div", notes, class_="notes", role="note") if notes else None,
    )
    parts = [Section("summary", "Summary", _summary(folder, found))]
    if found.ranked:
        parts += [
            Section("history", "History", _history(found)),
            Section("importance", "Importance", _importance(found)),
            Section("slices", "Slices", _slices(found)),
            Section("parallel", "Parallel coordinates", _parallel(found)),
        ]
    parts += [Section("trials", "Trials", _trials(found)), Section("recipe", "The best recipe", _recipe(folder))]
    return head, parts, found.lacking


def _summary(folder: Path, found: Search) -> Html:
    if found.best is None:
        return missing("no best trial is known yet.")
    words = ", ".join(f"{name} {cell(value)}" for name, value in found.best["settings"].items())
    return joined(
        element(
            "dl",
            element("div", element("dt", f"best {found.metric}"), element("dd", number(found.best["value"]),
                    element("small", f"trial {found.best['number']}"))),
            [element("div", element("dt", name), element("dd", cell(value)))
             for name, value in found.best["settings"].items()],
            class_="tiles",
        ),
        element("p", f"The best of {len(found.trials)} trials, with {words}. {_LUCK}"),
        element("pre", f"litscope fit --config {shell_word(folder / BEST)}", tabindex="0", aria_label="Command"),
    )  # fmt: skip


def _within(found: Search) -> tuple[dict[int, float], int]:
    """Values by trial, those far worse than the others at an edge, and how many these are."""
    values = {trial["number"]: float(trial["value"]) for trial in found.ranked}
    ranked = sorted(values.values(), reverse=found.mode == "max")
    if len(values) < FEWEST_FAR or not found.mode:
        return values, 0
    low, high = ranked[len(ranked) // 4], ranked[(3 * len(ranked)) // 4]
    edge = high + FAR * (high - low)
    if low == high:
        return values, 0
    nearer = max if found.mode == "max" else min
    cut = {trial: nearer(value, edge) for trial, value in values.items()}
    return cut, sum(cut[trial] != value for trial, value in values.items())


def _history(found: Search) -> Html:
    values, num_far = _within(found)
    complete = [t for t in found.trials if t["number"] in values and t.get("stopped_after") is None]
    pruned = [t for t in found.trials if t["number"] in values and t.get("stopped_after") is not None]
    frame = Frame(
        axis("trial", [t["number"] for t in found.trials], is_whole=True), axis(found.metric, [*values.values()])
    )
    x: list[float] = []
    y: list[float] = []
    best = math.inf
    sign = -1 if found.mode == "max" else 1
    for trial in complete if found.mode else []:
        best = min(best, sign * values[trial["number"]])
        x += [float(trial["number"])] * 2
        y += [*y[-1:], sign * best] if y else [sign * best] * 2
    line = Curve("best so far", x, y)
    drawn = [frame.curve(line), _points(frame, complete, values, "dot", 0), _points(frame, pruned, values, "cross", 1)]
    said = "A dot for each complete trial, a cross for each that was stopped early; the line is the best so far."
    said += f" {num_far} far worse are drawn at the edge." if num_far else ""
    return figure(
        f"{found.metric} by trial", said, joined(legend([line]), frame.drawn(f"History of the search. {said}", drawn))
    )


def _points(frame: Frame, trials: Sequence[dict[str, Any]], values: dict[int, float], mark: str, kind: int) -> Html:
    numbers = [trial["number"] for trial in trials]
    return frame.points(Points("", numbers, [values[n] for n in numbers], kind, mark))


def _importance(found: Search) -> Html:
    if not found.importance:
        return missing("too few complete trials, or all alike, so nothing is said of the importance of settings.")
    names, shares = list(found.importance), list(found.importance.values())
    said = f"The share of the variance of {found.metric} over the space that each setting explains (fANOVA)."
    words = ", ".join(f"{name} {share:.2f}" for name, share in found.importance.items())
    rows = [(name, f"{share:.3f}") for name, share in found.importance.items()]
    return figure(
        "What explains the metric", said, bars(f"Importance: {words}.", names, shares, lambda v: f"{v:.2f}"),
        folded("The numbers", table(("setting", "share"), rows, "Importance of settings", (1,))),
        element("p", "An estimate from few trials; it tells nothing of values that were not tried.", class_="soft"),
    )  # fmt: skip


def _axis_of(setting: dict[str, Any], values: Sequence[Any]) -> tuple[Axis, list[float]]:
    """The axis of a setting, and where values are on it."""
    choices = list(setting.get("choices") or ())
    if choices:
        places = [float(choices.index(value)) if value in choices else 0.0 for value in values]
        return Axis(setting["name"], -0.4, len(choices) - 0.6, names=[cell(one) for one in choices]), places
    places = [float(value) for value in values]
    return axis(setting["name"], places, is_log=bool(setting.get("is_log"))), places


def _slices(found: Search) -> Html:
    values, num_far = _within(found)
    trials = [trial for trial in found.trials if trial["number"] in values]
    panels = []
    for setting in found.space:
        x, places = _axis_of(setting, [trial["settings"].get(setting["name"]) for trial in trials])
        frame = Frame(x, axis(found.metric, [*values.values()]))
        at = {trial["number"]: place for trial, place in zip(trials, places, strict=True)}
        drawn = [
            frame.points(Points("", [at[t["number"]] for t in own], [values[t["number"]] for t in own], kind, mark))
            for kind, mark, own in (
                (0, "dot", [t for t in trials if t.get("stopped_after") is None]),
                (1, "cross", [t for t in trials if t.get("stopped_after") is not None]),
            )
        ]
        label = f"{found.metric} of each trial by {setting['name']}. The table of trials has the numbers."
        panels.append(figure(setting["name"], "", frame.drawn(label, drawn)))
    far = f" {num_far} far worse are drawn at the edge." if num_far else ""
    told = f"{found.metric} of each trial against each setting; crosses were stopped early.{far}"
    return joined(element("p", told, class_="soft"), element("div", panels, class_="grid"))


def _parallel(found: Search) -> Html:
    values, _ = _within(found)
    trials = [trial for trial in found.trials if trial["number"] in values]
    columns = [_axis_of(s, [t["settings"].get(s["name"]) for t in trials]) for s in found.space]
    axes = [one for one, _ in columns] + [axis(found.metric, [*values.values()])]
    lines = [
        [*(places[i] for _, places in columns), values[trial["number"]]] for i, trial in enumerate(trials)
    ]  # fmt: skip
    best = next((i for i, trial in enumerate(trials) if trial is found.best), -1)
    said = "A line for each trial across all settings to its value"
    said += "." if best < 0 else f"; the thick one is the best, trial {trials[best]['number']}."
    return figure("Settings together", said, parallel(said, axes, lines, best))


def _trials(found: Search) -> Html:
    names = [setting["name"] for setting in found.space]
    failed = [trial for trial in found.trials if not isinstance(trial.get("value"), int | float)]
    rows = [
        (trial["number"], number(trial.get("value")), _ended(trial), *(cell(trial["settings"].get(n)) for n in names),
         number(trial.get("wall_s")))
        for trial in [*found.ranked, *failed]
    ]  # fmt: skip
    order = "the best first" if found.mode else "in their order"
    return table(("trial", found.metric, "ended", *names, "seconds"), rows, f"Trials, {order}", (1, len(names) + 3))


def _ended(trial: dict[str, Any]) -> str:
    if trial.get("value") is None:
        return f"failed: {trial.get('reason') or 'no value'}"
    after = trial.get("stopped_after")
    return "complete" if after is None else f"stopped after {after} epochs"


def _recipe(folder: Path) -> Html:
    try:
        text = (folder / BEST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return missing(f"there is no {BEST}.")
    return element("pre", scrubbed(settings_alone(text)), tabindex="0", aria_label="The best recipe")
