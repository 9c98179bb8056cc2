"""The report of a cross-validation (`litscope cv`): each fold, all predictions together, what they are mistaken in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from litscope.addresses import scrubbed
from litscope.console import shell_word
from litscope.errors import RunError
from litscope.runs import FOLDS, OUT_OF_FOLD
from litscope.studio.report.markup import Html, Section, element, figure, folded, joined, missing, settings_alone, table
from litscope.studio.report.of_samples import calibration_figure, confusion_figure
from litscope.studio.report.plots import Axis, Frame, Points, axis, number
from litscope.studio.samples.tables import Bin, Calibration, ConfusionTable
from litscope.uncertainty.calibration import reliability

METRICS = ("accuracy", "f1", "auroc", "loss")
"""Of which each fold is drawn."""
NUM_DOUBTED = 30
NUM_BINS = 15
RECIPE = "cv.yaml"
_WHAT = (
    "Each sample is predicted by a network that was trained without its fold. The deviation over folds is no standard "
    "error: their networks share most of what they learned from."
)


def fold_sections(folder: Path) -> tuple[Html, list[Section], list[str]]:
    """The head of a cross-validation's report, its parts, and what is missing.

    Raises:
        RunError: if it is not over, or cannot be read.
    """
    found = _read(folder)
    lacking: list[str] = []
    parts = [
        Section("summary", "Summary", _summary(found)),
        Section("folds", "Folds", joined(_folds(found), _spread(found))),
        Section("probabilities", "What the probabilities are worth", _quality(found)),
        *_of_predictions(folder, lacking),
        Section("recipe", "Recipe", _recipe(folder)),
    ]
    how = "trained in one run" if found.get("is_at_once") else "trained one after the other"
    nested = "each with validation data of its own" if found.get("is_nested") else None
    facts = [found.get("dataset"), f"{len(found['folds'])} folds", how, nested]
    notes = [element("p", one) for one in lacking]
    head = joined(
        element("p", " · ".join(scrubbed(str(fact)) for fact in facts if fact), class_="lead"),
        element("div", notes, class_="notes", role="note") if notes else None,
    )
    return head, parts, lacking


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / FOLDS).read_text(encoding="utf-8"))
        if not (found["folds"] and isinstance(found["pooled"], dict)):
            raise ValueError("it has no folds")
    except FileNotFoundError:
        raise RunError(
            f"{folder} has no {FOLDS}: the cross-validation is not over. `litscope cv` goes on there."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / FOLDS} cannot be read: {error}.") from error
    return found


def _summary(found: dict[str, Any]) -> Html:
    pooled, mean, sd = found["pooled"], found.get("mean") or {}, found.get("sd") or {}
    tiles = []
    for name in METRICS:
        if pooled.get(name) is None and mean.get(name) is None:
            continue
        spread = "" if mean.get(name) is None else f"mean of folds {number(mean[name])} ± {number(sd.get(name))}"
        tiles.append(element("div", element("dt", f"{name}, all predictions"), element("dd", number(pooled.get(name)),
                             element("small", spread))))  # fmt: skip
    tiles.append(element("div", element("dt", "samples"), element("dd", number(pooled.get("num_samples")))))
    return joined(
        element("dl", tiles, class_="tiles"),
        element("p", _WHAT, class_="soft"),
    )  # fmt: skip


def _folds(found: dict[str, Any]) -> Html:
    names = [name for name in found["folds"][0] if name != "num_samples"]
    rows: list[tuple[object, ...]] = [
        (f"{i}", number(fold.get("num_samples")), *(number(fold.get(name)) for name in names))
        for i, fold in enumerate(found["folds"])
    ]
    for what, values in (("mean", found.get("mean")), ("sd", found.get("sd"))):
        rows.append((what, "", *(number((values or {}).get(name)) for name in names)))
    pooled = found["pooled"]
    rows.append(("pooled", number(pooled.get("num_samples")), *(number(pooled.get(name)) for name in names)))
    absent = [f"fold {i}: no sample of {', '.join(one)}" for i, one in enumerate(found.get("absent") or ()) if one]
    notes = (
        [element("p", f"{'; '.join(absent)}. Means over classes are there over others than in the rest.")]
        if absent
        else []
    )
    return joined(table(("fold", "samples", *names), rows, "Metrics of each fold", range(1, len(names) + 2)), notes)


def _spread(found: dict[str, Any]) -> Html:
    panels = []
    for name in METRICS:
        values = [fold.get(name) for fold in found["folds"]]
        known = [(float(i), float(value)) for i, value in enumerate(values) if value is not None]
        if not known:
            continue
        numbers = [f"{i}" for i in range(len(values))]
        pooled = found["pooled"].get(name)
        frame = Frame(Axis("fold", -0.5, len(values) - 0.5, names=numbers), axis("", [*values, pooled]), height=210)
        drawn = [frame.points(Points("", [x for x, _ in known], [y for _, y in known]))]
        if pooled is not None:
            (x0, y), (x1, _) = frame.at(-0.5, pooled), frame.at(len(values) - 0.5, pooled)
            drawn.insert(0, element("path", class_="ideal", d=f"M{x0} {y}H{x1}"))
        said = f"{number(min(y for _, y in known))} to {number(max(y for _, y in known))}"
        told = "" if pooled is None else f"; the dashed line is all predictions together, {number(pooled)}"
        panels.append(figure(name, f"{said}{told}.", frame.drawn(f"{name} of each fold: {said}", drawn)))
    return element("div", panels, class_="grid")


def _quality(found: dict[str, Any]) -> Html:
    figures = (found.get("quality") or {}).get("figures") or {}
    if not figures:
        return missing("nothing was asked of the probabilities.")
    rows = []
    for name, one in figures.items():
        span = "" if one.get("low") is None else f"{number(one['low'])} to {number(one['high'])}"
        rows.append((name.replace("_", " "), number(one.get("value")), span or one.get("reason") or ""))
    units = "samples" if found.get("num_groups") is None else f"{found['num_groups']:,} groups, drawn whole"
    scaled = found.get("calibration") or {}
    told = ""
    if isinstance(scaled.get("temperature"), int | float):
        before, after = scaled["before"], scaled["after"]
        told = (
            f" A temperature of {scaled['temperature']:.3f} fits them all; scaled by that of the other folds: NLL "
            f"{before['nll']:.4f} → {after['nll']:.4f}, ECE {before['ece']:.4f} → {after['ece']:.4f}."
        )
    return joined(
        table(("figure", "value", "95 % interval"), rows, "Figures of the probabilities", (1,)),
        element("p", f"Intervals are from draws of {units}.{told}", class_="soft"),
    )


def _of_predictions(folder: Path, lacking: list[str]) -> list[Section]:
    """What is read from each prediction; where these are gone, nothing."""
    try:
        rows = pq.read_table(folder / OUT_OF_FOLD, partitioning=None)
        names = json.loads((rows.schema.metadata or {})[b"litscope.classes"])
        place = {name: i for i, name in enumerate(names)}
        label = np.array([place[name] for name in rows["label"].to_pylist()], np.int64)
        pred = np.array([place[name] for name in rows["prediction"].to_pylist()], np.int64)
        p_max = rows["p_max"].to_numpy().astype(np.float64)
        doubted = _doubted(rows)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        lacking.append(f"{OUT_OF_FOLD} cannot be read: {error}")
        return []
    pairs, counts = np.unique(np.stack([label, pred], 1), axis=0, return_counts=True)
    cells = [(int(i), int(j), int(n)) for (i, j), n in zip(pairs, counts, strict=True)]
    title, right = "out-of-fold predictions", label == pred
    confusion = ConfusionTable(title, names, cells, len(label), float(right.mean()) if len(label) else None)
    return [
        Section("confusion", "Confusion", confusion_figure(confusion)),
        Section("calibration", "Calibration", calibration_figure(_calibration(title, p_max, right))),
        Section("doubted", "Doubtful labels", doubted),
    ]


def _calibration(title: str, p_max: np.ndarray, right: np.ndarray) -> Calibration:
    found = reliability(p_max, right, NUM_BINS)
    bins = [
        Bin(*one) for one in zip(found.count.tolist(), found.confidence.tolist(), found.accuracy.tolist(), strict=True)
    ]
    said = f"{100 * p_max.mean():.1f} % sure on average, and {100 * right.mean():.1f} % right."
    return Calibration(title, bins, found.error, found.corrected_error, len(right), said)


def _doubted(rows: pa.Table) -> Html:
    order = np.argsort(-rows["loss"].to_numpy(), kind="stable")[:NUM_DOUBTED]
    shown: Sequence[dict[str, Any]] = rows.take(pa.array(order)).to_pylist()
    cells = [
        (one["key"], one["label"], one["prediction"], f"{one['p_max']:.3f}", f"{np.exp(-one['loss']):.3g}",
         one["fold"])
        for one in shown
    ]  # fmt: skip
    caption = f"The {len(cells)} labels that the networks which have not seen them find least likely"
    heads = ("sample", "label", "prediction", "its p", "p of the label", "fold")
    return joined(
        element("p", f"{caption}. ", element("code", "litscope suspects"), " ranks all of them."),
        table(heads, cells, caption, (3, 4, 5)),
    )  # fmt: skip


def _recipe(folder: Path) -> Html:
    try:
        text = (folder / RECIPE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return missing(f"there is no {RECIPE}.")
    return joined(
        folded(
            "What was trained", element("pre", scrubbed(settings_alone(text)), tabindex="0", aria_label="The recipe")
        ),
        element("p", "Doubtful labels: ", element("code", f"litscope suspects {shell_word(folder)}"), class_="soft"),
    )
