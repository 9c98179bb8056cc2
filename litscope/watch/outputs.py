"""StepOutputs: what a step of somebody else's LightningModule returned, as far as it can be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litscope.watch.samples.drawn import Drawn
from litscope.watch.samples.ids import LABEL_KEYS

WANTED = (
    'Return {"loss": ..., "logits": ..., "label": ..., "sample_id": ...} from it, or call '
    "litscope.watch.record(sample_id=..., logits=..., label=...) inside it; without logits, "
    "record(sample_id=..., signals={...}) takes numbers of your own"
)


@dataclass(frozen=True)
class StepOutputs:
    """What was found in what a step returned, or else in its batch; None for what was not.

    Attributes:
        sample_id, logits, label: see `litscope.watch.record`.
        signals: `sample_loss`, if the step returned it.
    """

    sample_id: Any
    logits: Any
    label: Any
    signals: dict[str, Any]

    @property
    def is_row(self) -> bool:
        """Whether the ledger's own signals can be computed."""
        return self.logits is not None and self.label is not None and self.sample_id is not None

    @property
    def is_signals(self) -> bool:
        """Whether there are numbers of each sample, and no logits."""
        return bool(self.signals) and self.logits is None and self.sample_id is not None

    def missing(self) -> str:
        """What is missing for a row, in words: `no logits and no label`."""
        parts = (("logits", self.logits), ("label", self.label), ("sample_id", self.sample_id))
        return " and ".join(f"no {name}" for name, value in parts if value is None)


def read_outputs(outputs: Any, batch: Any, data: Drawn | None) -> StepOutputs:
    """Look for what can be recorded.

    Args:
        outputs: what the step returned.
        batch: what it was given: label and ids may stand there only.
        data: what the loader draws from `with_ids` data sets; None if there is nothing.
    """
    found = outputs if isinstance(outputs, Mapping) else {}
    ids = found["sample_id"] if "sample_id" in found else _ids_in(batch, data)
    label = found["label"] if "label" in found else _label_in(batch, data)
    signals = {"sample_loss": found["sample_loss"]} if "sample_loss" in found else {}
    return StepOutputs(ids, found.get("logits"), label, signals)


def _ids_in(batch: Any, data: Drawn | None) -> Any:
    if data is not None:
        return data.ids_in(batch)
    return batch.get("sample_id") if isinstance(batch, Mapping) else None


def _label_in(batch: Any, data: Drawn | None) -> Any:
    if data is not None:
        return data.label_in(batch)
    return next((batch[key] for key in LABEL_KEYS if key in batch), None) if isinstance(batch, Mapping) else None


def refusal(found: StepOutputs, outputs: Any, step: str, data: Drawn | None) -> str:
    """Why nothing is recorded of a step, and what to do.

    Args:
        found: in `outputs`.
        outputs: what the step returned, as Lightning hands it on: of a training step, a bare loss comes as a dict.
        step: its name.
        data: as for `read_outputs`.
    """
    if found.sample_id is not None:
        hint = ""
    elif data is None:
        hint = "; the batch has no ids: litscope.watch.with_ids(dataset) puts them into it"
    else:
        hint = "; the ids that with_ids put into the batch are not in their place: return them as sample_id"
    return f"{step} returned {_described(outputs, step)}: Scope finds {found.missing()}. {WANTED}{hint}."


def _described(outputs: Any, step: str) -> str:
    if outputs is None or outputs == {}:
        return "None"
    if isinstance(outputs, Mapping):
        if step == "training_step" and set(outputs) == {"loss"}:
            return "its loss alone (a Tensor)"
        return f"{{{', '.join(map(str, outputs))}}}"
    return f"a {type(outputs).__name__}"
