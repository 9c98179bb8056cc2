"""Whether an exported file says what the run's own network says: asked before the file appears."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.delivery.formats import Runner
from litscope.delivery.inputs import Inputs
from litscope.errors import LitscopeError

TOLERANCE = 1e-4
"""Largest difference of a probability that is accepted."""


@dataclass(frozen=True)
class Checked:
    """How a file was checked.

    Attributes:
        num_samples: on how many samples.
        are_own: whether they are of the run's data; else they are noise.
        largest: difference of a probability.
        precision: the run's own, where that is not float32; `own_largest`: the largest difference to it.
    """

    num_samples: int
    are_own: bool
    largest: float
    precision: str | None = None
    own_largest: float | None = None

    def text(self) -> str:
        """A sentence."""
        what = "samples of the run's data" if self.are_own else "random samples"
        by = f"its probabilities differ from the run's by at most {self.largest:.1e}"
        told = f"checked on {self.num_samples} {what}: {by}"
        if self.precision is None:
            return told
        return (
            f"{told} in float32; from those in {self.precision}, in which the run itself predicts, by at most "
            f"{self.own_largest:.1e}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self)}


def largest_difference(run: Runner, inputs: Inputs, expected: NDArray[np.float32], path: Path) -> float:
    """The largest difference of a probability between a file and the run, over all samples at once and one alone.

    Args:
        run: of the file.
        inputs: n samples.
        expected: (n, C) what the run's network says of them.
        path: where the file is to be, for the message.

    Raises:
        LitscopeError: if it is more than `TOLERANCE`, or not a number.
    """
    found, alone = run(inputs.arrays), run(inputs.arrays[:1])
    if found.shape != expected.shape or alone.shape != expected[:1].shape:
        raise LitscopeError(f"{path} was not written: it answers {found.shape} where the run answers {expected.shape}.")
    difference = max(float(np.abs(found - expected).max()), float(np.abs(alone - expected[:1]).max()))
    if not difference <= TOLERANCE:
        raise LitscopeError(
            f"{path} was not written: its probabilities differ from the run's by up to {difference:.2g}, and "
            f"{TOLERANCE:g} is allowed. Another format may do: --to safetensors."
        )
    return difference
