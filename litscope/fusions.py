"""Fusion: how the answers of several networks become one, as plain values that a checkpoint may hold. No torch.

What each rule does is said, and done, in `models.networks.fusion`; what it learns is fitted in `uncertainty.fusion`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Rule = Literal["mean", "median", "vote", "weighted", "uncertainty_weighted", "stacked"]

RULES: tuple[Rule, ...] = get_args(Rule)

LEARNED: tuple[Rule, ...] = ("weighted", "uncertainty_weighted", "stacked")
"""Rules that are fitted on answers to samples that no member was trained on. Of `uncertainty_weighted` these are the
temperatures; its weights follow from each sample's own passes."""

NEEDS_DROPOUT: tuple[Rule, ...] = ("uncertainty_weighted",)
"""Rules that look at how a member's answers scatter when its dropout is drawn several times."""

NUM_PASSES = 20
"""How often these draw it for each sample."""

_OFF = 1e-3
"""Weights whose sum is further from 1 are none."""


@dataclass(frozen=True)
class Fusion:
    """A rule with what it has learned.

    Attributes:
        rule: one of `RULES`.
        weights: (M,) of weighted and stacked, at least 0, with the sum 1; None: equal.
        temperatures: (M,) of uncertainty_weighted and stacked, above 0, which divide each member's logits; None: 1.
        last_temperature: of stacked, above 0: divides the fused log-probabilities.
        num_samples: how many samples it was fitted on; 0 where nothing was.

    Raises:
        ValueError: for values that are none of these.
    """

    rule: Rule = "mean"
    weights: Sequence[float] | None = None
    temperatures: Sequence[float] | None = None
    last_temperature: float = 1.0
    num_samples: int = 0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"the rule {self.rule!r} is none of {', '.join(RULES)}")
        if self.weights is not None:
            weights = _numbers("weights", self.weights)
            if min(weights) < 0.0 or abs(sum(weights) - 1.0) > _OFF:
                raise ValueError(f"the weights {list(weights)} are not at least 0 with the sum 1")
            object.__setattr__(self, "weights", weights)
        if self.temperatures is not None:
            object.__setattr__(self, "temperatures", _above_0("temperatures", self.temperatures))
        object.__setattr__(self, "last_temperature", _above_0("last_temperature", [self.last_temperature])[0])
        if not isinstance(self.num_samples, int) or self.num_samples < 0:
            raise ValueError(f"num_samples is {self.num_samples!r}, and no count")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Fusion:
        """The fusion of plain values, as `plain` returns them.

        Raises:
            ValueError: for other values.
        """
        known = {field.name for field in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"a fusion has no {unknown[0]!r}")
        return cls(**values)

    def plain(self) -> dict[str, Any]:
        """Itself as plain values: for JSON, and for checkpoints that are read with weights_only."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check(self, num_members: int) -> None:
        """Raises ValueError if it is one of another number of members."""
        for name in ("weights", "temperatures"):
            values = getattr(self, name)
            if values is not None and len(values) != num_members:
                raise ValueError(f"the fusion has {len(values)} {name}, and there are {num_members} members")


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    is_list = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not is_list or not all(isinstance(x, int | float) and math.isfinite(x) for x in values):
        raise ValueError(f"{name} are {values!r}, and no finite numbers")
    return tuple(float(x) for x in values)


def _above_0(name: str, values: Any) -> tuple[float, ...]:
    numbers = _numbers(name, values)
    if min(numbers) <= 0.0:
        raise ValueError(f"{name}: {min(numbers):g} is not above 0")
    return numbers
