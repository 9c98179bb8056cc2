"""What the columns of samples mean, in words, for the page and for `describe`. No numbers here."""

from __future__ import annotations

from litscope.ledger.neighbours import NEIGHBOUR_SCORES
from litscope.ledger.schema import SIGNALS
from litscope.ledger.scoring.recent import LAST_EPOCHS
from litscope.ledger.scoring.score_schema import SCORES
from litscope.ledger.uncertainties import MEASURED, UNCERTAINTIES
from litscope.studio.samples.values import Column, Group, Kind

_HIGH_IS_BAD = {
    "suspicion": True,
    "aum": False,
    "confidence": False,
    "variability": None,
    "correctness": False,
    "forgetting_events": True,
    "never_learned": True,
    "el2n": True,
    "mean_loss": True,
    "last_loss": True,
    "first_learned_epoch": None,
    "p_label": False,
    "p_max": None,
    "margin": False,
    "entropy": True,
    "neighbour_distance": True,
    "neighbour_agreement": False,
}


def own_column(name: str, values: list[str] | None = None) -> Column:
    """A column that litscope itself makes."""
    if name in SCORES:
        return _score(name)
    if name in NEIGHBOUR_SCORES:
        return Column(name, _title(name), "number", NEIGHBOUR_SCORES[name], "", "score", _HIGH_IS_BAD[name])
    if name in UNCERTAINTIES:
        is_chance = name.startswith("measured_p_")
        unit = "" if is_chance or name == "set_size" else "nats"
        return Column(name, _title(name), "number", UNCERTAINTIES[name], unit, "score", not is_chance)
    if name in MEASURED:
        return Column(name, _title(name), _MEASURED[name], MEASURED[name], "", "label", values=values)
    if name in SIGNALS:
        meaning = f"{SIGNALS[name].meaning.rstrip('.')}, mean over the last {LAST_EPOCHS} epochs."
        return Column(name, _title(name), "number", meaning, SIGNALS[name].unit, "signal", _HIGH_IS_BAD.get(name))
    kind, group, meaning = _OTHERS[name]
    return Column(name, _title(name), kind, meaning, "", group, values=values)


_OTHERS: dict[str, tuple[Kind, Group, str]] = {
    "sample_id": ("integer", "sample", "The number of the sample in this run, from 0."),
    "key": ("text", "sample", "The name of the sample: its path, or its place in the data set."),
    "split": ("class", "sample", "train, val or test."),
    "label_name": ("class", "label", "The label that the data set gives."),
    "current_name": ("class", "label", "The label as people decided."),
    "pred_name": ("class", "label", "What the network said at the last visit."),
    "believed_name": ("class", "label", "The class that the network believes it to be, over all visits."),
    "is_right": ("flag", "label", "Whether the last prediction is the present label."),
    "is_discarded": ("flag", "decision", "Whether people left it out of training."),
    "weight": ("number", "decision", "The factor of its loss; 1 where nobody changed it."),
    "tags": ("tags", "decision", "Names that people gave it."),
    "num_visits": ("integer", "score", "How often the network saw it with its label."),
}


_MEASURED: dict[str, Kind] = {
    "measured_label_name": "class",
    "measured_pred_name": "class",
    "conformal_set": "text",
    "measured_by": "class",
    "is_measure_outdated": "flag",
}


def _score(name: str) -> Column:
    score = SCORES[name]
    kinds: dict[str, Kind] = {"int32": "integer", "bool": "flag"}
    kind = kinds.get(str(score.dtype), "number")
    return Column(name, _title(name), kind, score.meaning, score.unit, "score", _HIGH_IS_BAD.get(name))


def _title(name: str) -> str:
    titles = {"aum": "AUM", "el2n": "EL2N", "p_label": "p(label)", "p_max": "p(predicted)", "sample_id": "id"}
    titles |= {"label_name": "given label", "current_name": "label", "pred_name": "prediction"}
    titles |= {"believed_name": "believed label", "is_right": "right", "is_discarded": "discarded"}
    return titles.get(name, name.replace("_", " "))
