"""`litscope check`: what `fit` would stumble over, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litscope.config.recipe import Recipe
from litscope.data.preflight import Report, inspect
from litscope.data.sources.source import Source
from litscope.errors import DataError
from litscope.models.networks.backbones import why_no_weights
from litscope.training.build import make_source
from litscope.training.choices import look, resolve
from litscope.training.hardware import Plan, check_hardware, may_choose_bf16
from litscope.training.loggers import check_loggers


@dataclass(frozen=True)
class Checkup:
    """The data as they were found, what `fit` would choose for them, and the hardware as it would be used.

    Attributes:
        may_be_bf16: a probe at the start of the run chooses between the plan's precision and bf16-mixed.
    """

    source: Source
    report: Report
    chosen: list[str]
    plan: Plan
    may_be_bf16: bool

    def lines(self) -> list[str]:
        """The report for a person."""
        plan = self.plan
        where = f"{plan.device_type} x {plan.world_size}" if plan.world_size > 1 else plan.device_type
        other = ", or bf16-mixed if a probe at the start finds it faster" if self.may_be_bf16 else ""
        return [
            *self.report.lines(),
            *self.chosen,
            f"hardware: {where}, strategy {plan.strategy}, precision {plan.precision}{other}",
            *plan.notes,
        ]

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "dataset": self.source.name,
            "kind": self.source.kind,
            "data": self.report.to_dict(),
            "chosen": self.chosen,
            "hardware": {**self.plan.trainer_arguments(), "notes": self.plan.notes, "may_be_bf16": self.may_be_bf16},
        }


def check_up(recipe: Recipe) -> Checkup:
    """Open the data, look at every label and file, and check the hardware settings.

    Raises:
        ConfigError: for settings that cannot work with these data or on this machine.
        DataError: for data that cannot be used; with --strict-data for any unreadable file.
    """
    check_loggers(recipe)
    plan = check_hardware(recipe)
    source = make_source(recipe)
    recipe.check_kind(source.kind)
    report = inspect(source, num_threads=recipe.data.num_workers or None, progress=recipe.logging.progress)
    if report.unreadable and recipe.data.strict_data:
        files = "".join(f"\n  {key}: {reason}" for key, reason in report.unreadable)
        raise DataError(f"{len(report.unreadable):,} files cannot be read, and --strict-data is on:{files}")
    facts = look(source, device=plan.device_type, num_devices=plan.world_size)
    _, chosen = resolve(recipe, facts, why_no_weights)
    return Checkup(source, report, chosen, plan, may_choose_bf16(recipe, plan, source.kind))
