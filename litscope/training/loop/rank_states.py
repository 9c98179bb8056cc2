"""What a checkpoint holds for each rank, restored on the same number of ranks or on another."""

from __future__ import annotations

from typing import Any

from litscope.console import warn
from litscope.live.ranks import Ranks
from litscope.models.classifier import Classifier
from litscope.training.loop.checkpoints import random_state, set_random_state


def take_up_random(states: list[dict[str, Any]], ranks: Ranks) -> dict[str, Any]:
    """Restore this rank's random state if as many ranks go on; with another number, warn that the run will differ.

    Returns:
        The state to go on with after a validation.
    """
    if len(states) == ranks.world_size:
        set_random_state(states[ranks.rank])
        return states[ranks.rank]
    if ranks.rank == 0:
        warn(
            f"the checkpoint was written by {len(states)} processes and is resumed by {ranks.world_size}: "
            "the run goes on, but not bit-equal to an uninterrupted one"
        )
    return random_state()


def take_up_metrics(module: Classifier, states: list[dict[str, Any]], ranks: Ranks) -> None:
    """Restore the epoch's metrics so far. They add up over ranks, so with another number the first takes them all."""
    if len(states) == ranks.world_size:
        module.load_metric_state(states[ranks.rank])
    elif ranks.rank == 0:
        joined = {name: sum(state[name] for state in states if state) for name in states[0]}
        module.load_metric_state(joined)
