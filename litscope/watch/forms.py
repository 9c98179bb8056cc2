"""Logits and labels in the forms in which people have them, as the one form that the ledger takes.

A classifier with one label for each sample has logits (B, C) and labels (B,). A binary model with one logit z is taken
as two classes with the logits (0, z), so with the probabilities [1 - p, p]. For every other form there is a sentence
that says what can be recorded instead. Nothing here waits for the device: what only values can tell is for `doubts`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from litscope.errors import ConfigError


class Classified(NamedTuple):
    """A batch as the ledger takes it.

    Attributes:
        logits: (B, C), detached, C of at least 2.
        label: (B,) int64 class indices, on the logits' device; below 0 where a sample has none.
        floats: (B,) the labels as they came, where they were no whole number type; they should be whole.
        is_one_logit: whether the model has one logit for two classes.
    """

    logits: Tensor
    label: Tensor
    floats: Tensor | None
    is_one_logit: bool


def classified(logits: Any, label: Any) -> Classified:
    """Bring a batch into the ledger's form.

    Args:
        logits: (B, C); (B,) or (B, 1) of a model with one logit.
        label: (B,) or (B, 1) class indices, of any number type.

    Raises:
        ConfigError: for any other form.
    """
    logits = _tensor(logits).detach()
    if label is None:
        raise ConfigError("record(logits=...) needs the labels too: record(sample_id=..., logits=..., label=...).")
    try:
        label = torch.as_tensor(label, device=logits.device)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"label must be class indices (B,), not {type(label).__name__}: {error}.") from error
    if logits.ndim == 0 or logits.ndim > 2:
        raise ConfigError(_of_more_dimensions(logits, label))
    if label.numel() != logits.shape[0] or label.ndim > 2:
        raise ConfigError(_of_other_labels(logits, label))
    is_one_logit = logits.ndim == 1 or logits.shape[1] == 1
    if is_one_logit:
        z = logits.reshape(-1)
        logits = torch.stack([torch.zeros_like(z), z], 1)
    label, floats = label.reshape(-1), None
    if label.is_floating_point():
        floats = label.detach().float().nan_to_num(nan=-1.0)  # NaN: the sample has no label
        label = floats
    return Classified(logits, label.long(), floats, is_one_logit)


def _numbers(what: str) -> str:
    """The advice for a model that the ledger's own signals do not fit."""
    return f"record numbers of each sample instead: record(sample_id=..., signals={{{what}}})"


def _tensor(logits: Any) -> Tensor:
    if isinstance(logits, Tensor):
        return logits
    if isinstance(logits, np.ndarray):
        return torch.from_numpy(logits)
    kind = type(logits).__name__
    if isinstance(logits, tuple | list) and logits and all(isinstance(part, dict) for part in logits):
        numbers = _numbers('"loss": loss_per_image')
        raise ConfigError(f"logits are a {kind} of dicts, as detection models return them, not one class: {numbers}.")
    raise ConfigError(
        f"logits must be a tensor (B, C), got a {kind}. Of a model that returns several parts, give the one with the "
        "scores of the classes."
    )


def _of_more_dimensions(logits: Tensor, label: Tensor) -> str:
    shape = tuple(logits.shape)
    if logits.ndim == 0:
        return "logits are a single number; they must be (B, C), one row for each sample."
    if logits.ndim == 3:
        what, numbers = "a prediction for each token or time step", _numbers('"loss": loss_per_token.mean(1)')
    else:
        what = "a prediction for each pixel, as in segmentation"
        numbers = _numbers('"loss": loss_per_pixel.flatten(1).mean(1)')
    if label.numel() == logits.shape[0]:
        advice = f"Each sample has one label here, so give the logits that belong to it, (B, C); or {numbers}."
    else:
        advice = f"There is no one label for each sample: {numbers}."
    return f"logits are {shape} and label {tuple(label.shape)}: {what}. {advice}"


def _of_other_labels(logits: Tensor, label: Tensor) -> str:
    if label.shape == logits.shape:
        numbers = _numbers('"loss": loss_per_label.mean(1)')
        return (
            f"label is {tuple(label.shape)}, like the logits. If that is one-hot, give label.argmax(1). If samples "
            f"have several labels each (multi-label), {numbers}. If labels are blended (mixup, cutmix), record an "
            "evaluation pass on samples as they are (docs/ledger.md#mixup)."
        )
    numbers = _numbers('"loss": loss_per_sample')
    return (
        f"label {tuple(label.shape)} does not fit logits {tuple(logits.shape)}: it is (B,), one class index for each "
        f"sample. If the model predicts something else, {numbers}."
    )


def not_whole(value: float) -> ConfigError:
    """The error for labels that are no class indices."""
    numbers = _numbers('"error": (prediction - y).abs()')
    return ConfigError(
        f"label has values that are no class index, such as {value:g}. If the model predicts numbers (regression), "
        f"{numbers}. If labels are soft, record an evaluation pass with whole ones."
    )


def beyond(label: int, sample_id: int, num_classes: int, is_one_logit: bool) -> ConfigError:
    """The error for a label that is no class of the model's."""
    if is_one_logit:
        numbers = _numbers('"error": (prediction - y).abs()')
        why = "the model has one logit, which tells the classes 0 and 1 apart"
        more = f" If it predicts numbers (regression), {numbers}."
    else:
        why, more = f"the logits have {num_classes} classes, 0 to {num_classes - 1}", ""
    return ConfigError(f"label {label} of sample_id {sample_id}: {why}. A sample without a label has -1.{more}")
