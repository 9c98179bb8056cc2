"""Readout: how the logits of a network are read, learned on samples that it was not trained on, and kept with its
weights under one key of the checkpoint, as plain values.

    scale, shift    softmax(scale * (z - mean z) + shift) in place of softmax(z); see `uncertainty.temperature`
    threshold       of two classes: from which probability on the second one is predicted
    limit           of conformal sets: a class whose score is not above it is in the set; see `uncertainty.conformal`

It belongs to the weights that it was learned with, so whatever trains on from them begins without one. Of several
members, what they say together is scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_args

if TYPE_CHECKING:
    from torch import Tensor

READOUT = "litscope_readout"
"""Where a checkpoint holds it."""

FOLDS = "folds"
"""In place of a split: samples that networks of a cross-validation were asked about."""

Scaled = Literal["none", "temperature", "vector"]
Sets = Literal["lac", "aps", "raps"]


@dataclass(frozen=True)
class SetLimit:
    """The limit of conformal sets.

    Attributes:
        method: lac, aps or raps.
        coverage: what was asked, between 0 and 1.
        by_class: whether the promise is held in every class.
        limit: (C,) the highest score that is taken in, of each class; inf where too few samples set none.
    """

    method: Sets
    coverage: float
    by_class: bool
    limit: tuple[float, ...]


@dataclass(frozen=True)
class FittedOn:
    """The samples that a readout was learned on.

    Attributes:
        split: their split of the run; FOLDS where networks of a cross-validation were asked in its place.
        num_samples: how many.
        are_verified: whether only labels counted that somebody has verified.
        digest: of their ids and labels; says whether the same would be learned from again.
    """

    split: str
    num_samples: int
    are_verified: bool
    digest: str

    @property
    def what(self) -> str:
        """What one of them is called."""
        what = "out-of-fold prediction" if self.split == FOLDS else "validation sample"
        return f"verified {what}" if self.are_verified else what

    def is_among(self, split: str | None) -> bool:
        """Whether they are samples of a split of the run; None: of other data."""
        return split == "all" or (split in ("train", "val") if self.split == FOLDS else split == self.split)


@dataclass(frozen=True)
class Readout:
    """How logits (B, C) are read.

    Attributes:
        method: how the scaling was learned; none: the logits are read as they are.
        scale, shift: (C,) each; see the module.
        aim: what the threshold was chosen for; None: the most probable class is predicted.
        threshold: of the second of two classes.
        sets: of conformal sets; None: none are made.
        fitted_on: the samples.
    """

    method: Scaled
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    aim: str | None
    threshold: float | None
    sets: SetLimit | None
    fitted_on: FittedOn

    @property
    def temperature(self) -> float | None:
        """T, where one was learned for all classes."""
        return 1.0 / self.scale[0] if self.method == "temperature" else None

    @property
    def is_plain(self) -> bool:
        """Whether it changes nothing: nothing was learned that helps."""
        return self.method == "none" and self.threshold is None and self.sets is None

    def scaled(self, logits: Tensor) -> Tensor:
        """(..., C) float32 logits whose softmax are the probabilities."""
        z = logits.float()
        if self.method == "none":
            return z
        scale, shift = (z.new_tensor(values) for values in (self.scale, self.shift))
        return (z - z.mean(-1, keepdim=True)) * scale + shift

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint and for JSON, which knows no infinity: a class without a limit has null."""
        found = asdict(self)
        found["scale"], found["shift"] = list(self.scale), list(self.shift)
        if self.sets is not None:
            found["sets"]["limit"] = [None if math.isinf(value) else value for value in self.sets.limit]
        return found

    @classmethod
    def from_dict(cls, found: Any, num_classes: int | None) -> Readout:
        """What `to_dict` gave.

        Raises:
            ValueError: for anything else, or other numbers than one of each of `num_classes`.
        """
        if not isinstance(found, Mapping):
            raise ValueError("its readout is no mapping")
        method: Any = found.get("method")
        aim, threshold = found.get("aim"), found.get("threshold")
        if method not in get_args(Scaled):
            raise ValueError(f"its readout scales by {method!r}")
        scale, shift = (_numbers(found.get(name), num_classes, name) for name in ("scale", "shift"))
        is_aimed = isinstance(aim, str) and _is_number(threshold) and 0.0 <= threshold <= 1.0 and len(scale) == 2
        if not is_aimed and (aim, threshold) != (None, None):
            raise ValueError(f"its readout has the threshold {threshold!r} for {aim!r}")
        return cls(
            method=method,
            scale=scale,
            shift=shift,
            aim=aim,
            threshold=threshold,
            sets=None if found.get("sets") is None else _sets(found["sets"], len(scale)),
            fitted_on=_fitted_on(found.get("fitted_on")),
        )


def _sets(found: Any, num_classes: int) -> SetLimit:
    if not isinstance(found, Mapping) or found.get("method") not in get_args(Sets):
        raise ValueError("its readout makes sets in a way that is not known")
    coverage, by_class, limit = found.get("coverage"), found.get("by_class"), found.get("limit")
    if not isinstance(by_class, bool) or not _is_number(coverage) or not 0.0 < coverage < 1.0:
        raise ValueError(f"its readout makes sets of the coverage {coverage!r}")
    if isinstance(limit, Sequence):
        limit = [math.inf if value is None else value for value in limit]
    return SetLimit(found["method"], coverage, by_class, _numbers(limit, num_classes, "limit", is_finite=False))


def _fitted_on(found: Any) -> FittedOn:
    kinds = {"split": str, "num_samples": int, "are_verified": bool, "digest": str}
    if not isinstance(found, Mapping) or any(not isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise ValueError("its readout does not say what it was learned on")
    return FittedOn(**{name: found[name] for name in kinds})


def _numbers(found: Any, num_classes: int | None, name: str, is_finite: bool = True) -> tuple[float, ...]:
    is_list = isinstance(found, Sequence) and not isinstance(found, str) and len(found) == (num_classes or len(found))
    if not is_list or not all(_is_number(value, is_finite) for value in found):
        raise ValueError(f"the {name} of its readout is not a number for each class")
    return tuple(map(float, found))


def _is_number(value: Any, is_finite: bool = True) -> TypeGuard[float]:
    return type(value) in (int, float) and not math.isnan(value) and (not is_finite or math.isfinite(value))
