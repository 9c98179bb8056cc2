"""`litscope check`: what `fit` would stumble over, without training."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

from litscope.config.recipe import Recipe
from litscope.features.duplicates import NearDuplicates
from litscope.models.networks.backbones import download_of
from litscope.models.networks.sources import find_weights
from litscope.training.hardware import may_choose_bf16
from litscope.training.prepare import Prepared, prepare, seeded_classifier
from litscope.training.run_folder import check_folder


@dataclass(frozen=True)
class Checkup:
    """The data as they were found, what `fit` would choose for them, and the hardware as it would be used.

    Attributes:
        start: the run that could begin.
        may_be_bf16: a probe at the start of the run chooses between the plan's precision and bf16-mixed.
        download: the URL from which `fit` would fetch pretrained weights, or None.
        near_duplicates: if they were asked for.
    """

    start: Prepared
    may_be_bf16: bool
    download: str | None
    near_duplicates: NearDuplicates | None = None

    def with_near_duplicates(self, found: NearDuplicates) -> Checkup:
        """The same, with what a look for near-duplicates found."""
        return dataclasses.replace(self, near_duplicates=found)

    def lines(self) -> list[str]:
        """The report for a person."""
        plan = self.start.plan
        where = f"{plan.device_type} x {plan.world_size}" if plan.world_size > 1 else plan.device_type
        other = ", or bf16-mixed if a probe at the start finds it faster" if self.may_be_bf16 else ""
        return [
            *self.start.data.report.lines(),
            *(self.near_duplicates.lines() if self.near_duplicates is not None else []),
            *self.start.chosen,
            *([self._download_line()] if self.download else []),
            f"hardware: {where}, strategy {plan.strategy}, precision {plan.precision}{other}",
            *self.start.notes,
        ]

    def _download_line(self) -> str:
        recipe = self.start.recipe
        otherwise = "chooses to start from scratch" if "model.pretrained" in recipe.chosen else "ends there"
        if otherwise == "ends there" or recipe.model.weights is not None:
            otherwise = f"ends there, as {'--pretrained' if recipe.model.weights is None else '--weights'} asks"
        return (
            f"pretrained weights would be downloaded from {self.download}, which was not asked: if it does not answer, "
            f"`litscope fit` {otherwise}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        plan, data = self.start.plan, self.start.data
        return {
            "dataset": data.source.name,
            "kind": data.kind,
            "data": data.report.to_dict(),
            "near_duplicates": None if self.near_duplicates is None else self.near_duplicates.to_dict(),
            "chosen": self.start.chosen,
            "download": self.download,
            "hardware": {**plan.trainer_arguments(), "notes": plan.notes, "may_be_bf16": self.may_be_bf16},
        }


def check_up(recipe: Recipe) -> Checkup:
    """Prepare a run as `fit` does, and train nothing: the images are in the cache afterwards.

    The network is not asked: where `fit` would download pretrained weights, the report says so, and the network is
    built with a random start instead.

    Raises:
        UserError: whatever `fit` would refuse, but for weights that cannot be downloaded.
    """
    start = prepare(recipe, ask_network=False)
    url = _download(start)
    seeded_classifier(start if url is None else _from_scratch(start))
    check_folder(start.recipe, start.folder, start.data.manifest, start.plan)
    return Checkup(start, may_choose_bf16(start.recipe, start.plan, start.data.kind), url)


def _download(start: Prepared) -> str | None:
    """The URL from which `fit` would fetch this run's weights."""
    model = start.recipe.model
    if start.checkpoint is not None or model.arch is None:
        return None
    if model.weights is not None:
        return find_weights(model.weights, model.arch, ask=False).url
    return download_of(model.arch) if model.pretrained else None


def _from_scratch(start: Prepared) -> Prepared:
    recipe = copy.deepcopy(start.recipe)
    recipe.model.pretrained, recipe.model.weights, recipe.model.finetune = False, None, "full"
    return dataclasses.replace(start, recipe=recipe)
