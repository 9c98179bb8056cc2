"""`litscope check`: what `fit` would stumble over, without training."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.config.recipe import Recipe
from litscope.errors import ModelError
from litscope.features.duplicates import NearDuplicates
from litscope.models.networks.backbones import place_of_weights, why_never_weights
from litscope.models.networks.hub import unreachable
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
        weights: the file of pretrained weights that is on this machine, or None.
        near_duplicates: if they were asked for.
    """

    start: Prepared
    may_be_bf16: bool
    download: str | None
    weights: Path | None = None
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
            *([f"pretrained weights: {self.weights}"] if self.weights is not None else []),
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
            "weights": None if self.weights is None else str(self.weights),
            "hardware": {**plan.trainer_arguments(), "notes": plan.notes, "may_be_bf16": self.may_be_bf16},
        }


def check_up(recipe: Recipe, *, fetch_weights: bool = False) -> Checkup:
    """Prepare a run as `fit` does, and train nothing: the images are in the cache afterwards.

    The network is not asked: where `fit` would download pretrained weights, the report says so, and the network is
    built with a random start instead.

    Args:
        recipe: of the run.
        fetch_weights: download them all the same, into the cache in which `fit` looks for them.

    Raises:
        UserError: whatever `fit` would refuse, but for weights that cannot be downloaded.
        ModelError: with `fetch_weights`, also for those, and for a run that starts without any.
    """
    start = prepare(recipe, ask_network=False)
    place = _weights_place(start)
    if fetch_weights:
        _require_reachable(start, place)
        seeded_classifier(start)  # as `fit` does, by the same clients
        place = _weights_place(start)
        assert isinstance(place, Path)
    else:
        seeded_classifier(_from_scratch(start) if isinstance(place, str) else start)
    check_folder(start.recipe, start.folder, start.data.manifest, start.plan)
    download = place if isinstance(place, str) else None
    weights = place if isinstance(place, Path) else None
    return Checkup(start, may_choose_bf16(start.recipe, start.plan, start.data.kind), download, weights)


def _weights_place(start: Prepared) -> Path | str | None:
    """Where the weights are that this run starts from: a file, else the URL from which `fit` would fetch them; None for
    a random start, and for a run that goes on."""
    model = start.recipe.model
    archs = list(dict.fromkeys(model.archs)) or [name for name in [model.arch] if name is not None]
    if start.checkpoint is not None or not archs:
        return None
    if model.weights is not None:
        return find_weights(model.weights, archs[0], ask=False).place
    places = [place_of_weights(arch) for arch in archs] if model.pretrained else []
    return next((place for place in places if isinstance(place, str)), places[0] if places else None)


def _require_reachable(start: Prepared, place: Path | str | None) -> None:
    if place is None:
        arch = start.recipe.model.arch or next(iter(start.recipe.model.archs), None)
        why = why_never_weights(arch) if arch is not None and start.checkpoint is None else "it goes on with its own"
        raise ModelError(
            f"--fetch-weights: this run starts from no pretrained weights ({why or '--pretrained is off'}). Name some, "
            "with --arch and --pretrained or with --weights, or leave --fetch-weights out."
        )
    if isinstance(place, str) and (why := unreachable(place)) is not None:
        raise ModelError(
            f"--fetch-weights: {place} cannot be had here: {why}. Run this where the internet is, such as on a login "
            "node, with the same HF_HOME and TORCH_HOME as the job. Or bring a file of weights: --weights FILE."
        )


def _from_scratch(start: Prepared) -> Prepared:
    recipe = copy.deepcopy(start.recipe)
    recipe.model.pretrained, recipe.model.weights, recipe.model.finetune = False, None, "full"
    return dataclasses.replace(start, recipe=recipe)
