"""Planting: the canaries' turn at an epoch's end, for which all ranks ask the network which wrong labels tempt it."""

from __future__ import annotations

import lightning.pytorch as L
import torch

from litscope.live.ranks import Ranks
from litscope.training.loop.canaries import Canaries, Plan
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.loop.fit_record import FitRecord
from litscope.types import StepOutput


def plant_or_take_out(
    canaries: Canaries | None, trainer: L.Trainer, fit: FitRecord, ranks: Ranks, is_last: bool
) -> None:
    """Give the canaries their turn, once the epoch's signals are on the disk. Every rank comes here.

    Args:
        canaries: on the first rank.
        is_last: the run ends here.
    """
    schedule = fit.module.schedule
    total = schedule.total_steps if schedule is not None else None
    done = 1.0 if is_last else trainer.global_step / total if total else 0.0
    plan = None
    if canaries is not None:
        plan = canaries.epoch_ended(fit.epoch, fit.data.active_ids("train"), done)
    plan = ranks.first(plan)
    if plan is None:
        return
    tempting = ranks.gather(_ask_network(trainer, fit, plan))
    if canaries is not None:
        canaries.plant(plan, {i: wrong for part in tempting for i, wrong in part.items()})


def _ask_network(trainer: L.Trainer, fit: FitRecord, plan: Plan) -> dict[int, int]:
    """The wrong labels that tempt the network most, for this rank's share of the samples in question."""
    found: dict[int, int] = {}

    def draw(output: StepOutput) -> None:
        p = torch.softmax(output["logits"].float(), 1)
        rows = (tensor.cpu().numpy() for tensor in (output["sample_id"], output["label"], p))
        found.update(plan.tempting(*rows))

    clean_pass(trainer, fit.module, plan.asked, draw)
    return found
