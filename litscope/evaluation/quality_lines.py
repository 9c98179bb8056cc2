"""What `quality` found, in words and tables for people."""

from __future__ import annotations

from typing import Any

from litscope.console import listed, number_of, table_lines

_WORDS = {"nll": "NLL", "brier": "Brier", "ece": "ECE", "aurc": "AURC", "tpr": "TPR", "fpr": "FPR", "auroc": "AUROC"}


def quality_lines(found: dict[str, Any]) -> list[str]:
    """Lines of the figures with their intervals, and of what was set on the validation split."""
    rows = []
    has_threshold = found.get("threshold", {}).get("threshold") is not None
    for name, each in found["figures"].items():
        words = " ".join(_WORDS.get(word, word) for word in name.split("_"))
        if name == "accuracy" and has_threshold:
            words += " at 0.5"  # the metrics above are of what the threshold decides
        if each["value"] is None:
            rows.append((words, "-", each["reason"]))
        else:
            span = "" if each["low"] is None else f"{each['low']:.4f} to {each['high']:.4f}"
            rows.append((words, f"{each['value']:.4f}", span))
    lines = table_lines(["of the probabilities", "value", "95 %"], rows, right=["value"])
    if "calibration" in found:
        lines += ["", _calibration(found["calibration"], found["figures"])]
    if "conformal" in found:
        lines += ["", *_conformal(found["conformal"])]
    if "threshold" in found:
        lines += ["", _threshold(found["threshold"])]
    return lines


def _calibration(part: dict[str, Any], after: dict[str, Any]) -> str:
    what = "a vector" if part["temperature"] is None else f"a temperature of {part['temperature']:.3f}"
    before = part["before"]
    changes = [f"{_WORDS[name]} {before[name]:.4f} -> {after[name]['value']:.4f}" for name in ("nll", "ece")]
    return f"scaled by {what}, from {number_of(part['num_samples'], part['learned_on'])}: {', '.join(changes)}"


def _conformal(part: dict[str, Any]) -> list[str]:
    held, kind = part["coverage"], part["method"] + (" by class" if part["by_class"] else "")
    span = "" if held["low"] is None else f" ({held['low']:.3f} to {held['high']:.3f})"
    lines = [
        f"sets ({kind}, from {number_of(part['num_samples'], part['learned_on'])}): the true class is in "
        f"{held['value']:.3f}{span} of them, {part['asked']:g} was asked; {part['mean_set_size']:.2f} classes a set, "
        f"{part['empty']:,} empty"
    ]
    if part["classes_without_limit"]:
        lines.append(f"too few of them for a limit, so in every set: {listed(part['classes_without_limit'])}")
    return lines


def _threshold(part: dict[str, Any]) -> str:
    count = number_of(part["num_samples"], part["learned_on"])
    if part["threshold"] is None:
        return f"no threshold reaches {part['aim']} on {count}"
    shares = [
        f"{name} {'-' if part[name] is None else format(part[name], '.4f')}" for name in ("precision", "recall", "fpr")
    ]
    return (
        f"threshold {part['threshold']:.4f} for {part['aim']}, chosen on {count}: {', '.join(shares)} "
        f"({part['true_positives']:,} of {part['true_positives'] + part['false_negatives']:,} found, "
        f"{number_of(part['false_positives'], 'false alarm')})"
    )


def ood_lines(found: dict[str, Any]) -> list[str]:
    """How well strangers are told from the run's samples, as a table."""
    rows = [
        (name, f"{each['value']:.4f}", "" if each["low"] is None else f"{each['low']:.4f} to {each['high']:.4f}")
        for name, each in found["auroc"].items()
    ]
    title = f"AUROC of {number_of(found['num_strangers'], 'stranger')}, {found['source']}"
    return table_lines([title, "value", "95 %"], rows, right=["value"])
