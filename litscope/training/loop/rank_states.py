"""What a checkpoint holds of each rank, taken up by as many ranks or by others."""

from __future__ import annotations

from typing import Any

from litscope.console import warn
from litscope.live.ranks import Ranks
from litscope.models.classifier import Classifier
from litscope.training.loop.checkpoints import random_state, set_random_state


def take_up_random(states: list[dict[str, Any]], ranks: Ranks) -> dict[str, Any]:
    """Set this rank's random state where as many ranks go on; with others the run differs from here on, and says so.

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
    """Metrics of the epoch so far. They add up over ranks, so with other ranks the first takes them all."""
    if len(states) == ranks.world_size:
        module.load_metric_state(states[ranks.rank])
    elif ranks.rank == 0:
        joined = {name: sum(state[name] for state in states if state) for name in states[0]}
        module.load_metric_state(joined)
