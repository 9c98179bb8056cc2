"""What a search leaves for people: pictures of its trials, and one page with all of it that needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from litscope.console import shell_word
from litscope.experiments.search_space import Dimension
from litscope.experiments.study import explained
from litscope.experiments.trials import NO_VALUE, Trial, TuneResult, shown
from litscope.pictures import search_charts
from litscope.pictures.search_charts import Axis, Tried
from litscope.rundir import write_json, write_text
from litscope.runs import SEARCH

PAGE = "tune.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #eceff3 }
pre { background: #f1f3f6; padding: .8rem; overflow-x: auto }
.pruned, .failed { color: #4d5560 } .best td { font-weight: bold } .wide { overflow-x: auto }
"""


def report(result: TuneResult, space: Sequence[Dimension], seed: int) -> TuneResult:
    """Draw the pictures and write the page of a search, and its result in plain values, into its folder.

    Args:
        result: with a trial that has a value; best.yaml is written.
        space: what varied.
        seed: of the forest by which importance is told.
    """
    shares = explained(result.trials, space, result.mode, seed)
    told = replace(result, importance=shares, pictures=_draw(result, space, shares), page=result.folder / PAGE)
    assert told.page is not None
    write_text(told.page, _page(told))
    axes = [{"name": d.field.name, "choices": list(d.choices), "is_log": d.is_log} for d in space]
    write_json(result.folder / SEARCH, told.to_dict() | {"space": axes})
    return told


def _draw(result: TuneResult, space: Sequence[Dimension], shares: dict[str, float] | None) -> tuple[Path, ...]:
    folder = result.folder / "figures"
    folder.mkdir(exist_ok=True)
    trials = [Tried(t.number, t.value, t.state, t.settings) for t in result.trials]
    axes = [Axis(d.field.name, d.choices, d.is_log) for d in space]
    names = ("history", "slices", "parallel", "importance")
    files = [folder / f"{name}.png" for name in names]
    search_charts.history(trials, result.metric, result.mode, files[0])
    search_charts.slices(trials, axes, result.metric, result.mode, files[1])
    search_charts.parallel(trials, axes, result.metric, result.mode, files[2])
    if not shares:
        files[3].unlink(missing_ok=True)  # of a search that had fewer trials it is not there either
        return tuple(files[:3])
    search_charts.importance(shares, result.metric, files[3])
    return tuple(files)


def _page(result: TuneResult) -> str:
    title = f"{result.dataset}: {len(result.trials)} trials"
    best = result.ranked[0]
    failed = [trial for trial in result.trials if trial.state == "failed"]
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    rows = "\n".join(_row(trial, is_best=trial is best) for trial in [*result.ranked, *failed])
    heads = "".join(f"<th>{_text(name)}</th>" for name in ("trial", result.metric, "ended", *best.settings, "seconds"))
    importance = (
        "<p>Importance is the share of the metric's variance over the space that a setting explains (fANOVA); it is an "
        "estimate from few trials, and tells nothing of values that were not tried.</p>"
        if result.importance
        else "<p>Too few complete trials, or all alike: nothing is said of the importance of settings.</p>"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{_STYLE}</style></head><body>
<h1>{_text(title)}</h1>
<p>Best {_text(result.metric)}: <b>{best.value:.6g}</b> (trial {best.number}), with {_text(best.words)}.
{len(pruned)} trials were stopped early, {len(failed)} failed. The best of many trials is partly lucky: measure it on
data that the search has not seen.</p>
<pre>litscope fit --config {_text(shell_word(result.config))}</pre>
{"".join(_picture(path) for path in result.pictures)}
{importance}
<h2>Trials</h2>
<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div>
<h2>The best recipe</h2>
<pre>{_text(_settings(result.config.read_text(encoding="utf-8")))}</pre>
</body></html>
"""


def _row(trial: Trial, is_best: bool) -> str:
    value = "" if trial.value is None else f"{trial.value:.6g}"
    ended = {
        "complete": "complete",
        "pruned": f"stopped after {trial.stopped_after} epochs",
        "failed": f"failed: {trial.reason or NO_VALUE}",
    }[trial.state]
    cells = (trial.number, value, ended, *map(shown, trial.settings.values()), f"{trial.wall_s:.1f}")
    return (
        f'<tr class="{"best" if is_best else trial.state}">{"".join(f"<td>{_text(cell)}</td>" for cell in cells)}</tr>'
    )


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{_text(path.stem)}" src="data:image/png;base64,{data}"></p>\n'


def _settings(recipe: str) -> str:
    """A recipe without its comments."""
    return "\n".join(line for line in recipe.split("\n") if line.strip() and not line.lstrip().startswith("#"))


def _text(value: object) -> str:
    return html.escape(str(value))
