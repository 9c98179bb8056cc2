"""Place: where a watched loop stands."""

from __future__ import annotations

from dataclasses import dataclass

from litscope.watch.samples.drawn import Drawn


@dataclass
class Place:
    """Where the loop stands: what a row says about its visit. Changed in place.

    Attributes:
        split: of the samples that are shown: train, val or test.
        phase: train, or eval in an evaluation pass.
        step: optimizer steps completed.
        epoch: from 0.
        is_recorded: whether what is shown goes on record.
        drawn: what the loader that shows them draws of `with_ids` data sets; None where it draws of none.
        space: where ids of a person's own count (`own_ids`); empty: within the split.
        is_loader_known: whether `drawn` says so; else the split tells whether its data sets were met.
    """

    split: str = "train"
    phase: str = "train"
    step: int = 0
    epoch: int = 0
    is_recorded: bool = True
    drawn: Drawn | None = None
    space: str = ""
    is_loader_known: bool = False
