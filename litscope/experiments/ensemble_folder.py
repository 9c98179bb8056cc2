"""An ensemble of separate runs as one network, and the folder that holds it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from litscope.attempts import begin_attempt
from litscope.config.hardware import HardwareConfig
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.data.sample_facts import SampleFacts
from litscope.errors import ConfigError
from litscope.evaluation.network import Network, plan_for
from litscope.evaluation.opened_run import OpenedRun
from litscope.experiments.ensemble_members import Member
from litscope.experiments.ensemble_result import EnsembleResult
from litscope.experiments.ensemble_splits import JointSplits
from litscope.fusions import Rule
from litscope.live import environment
from litscope.live.records import Ending, write_summary
from litscope.models.checkpoint_parts import save_file
from litscope.models.forward import HYPER_PARAMETERS, SAMPLE_FACTS
from litscope.models.joined import place_of, record_of
from litscope.models.predictor import Predictor
from litscope.rundir import RunDir, write_json, write_text
from litscope.runs import claim_folder

_PLAIN = "32-true"


def check_free(output: str | os.PathLike[str] | None) -> None:
    """Refuse a folder that holds something, before anything is computed.

    Raises:
        ConfigError: if it is a file, or not empty.
        RunError: if it holds a run.
    """
    if output is None:
        return
    path = Path(output)
    RunDir(path).check_free()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"--output {path}: it is there and not empty. The ensemble needs a folder of its own.")


def joined_network(
    members: Sequence[Member], rule: Rule, accelerator: str | None, batch_size: int | None, num_workers: int | None
) -> Network:
    """One network of all members, that takes samples as they are stored for the member that needs the most pixels.

    Args:
        rule: how the answers become one.

    Raises:
        ConfigError: if the accelerator is not there.
    """
    networks = [member.network for member in members]
    facts = networks[0].facts
    side = max((network.facts.encoding["stored_size"] for network in networks), default=0) if _is_image(facts) else None
    encoding = dict(facts.encoding)
    if side is not None:
        encoding |= {"image_size": side, "stored_size": side}
        encoding.pop("crop_pct", None)
        if len({network.facts.encoding.get("interpolation") for network in networks}) > 1:
            encoding.pop("interpolation", None)
    first = networks[0].predictor.settings
    records = [record_of(m.network.predictor, _view(m.network.facts), m.order) for m in members]
    shape: dict[str, Any] = {"num_features": first.num_features} if side is None else {"in_channels": first.in_channels}
    predictor = Predictor(
        num_classes=len(facts.classes), image_size=side, joined=records, ensemble_strategy=rule, **shape
    )
    state = {
        f"{place_of(number)}{name}": value
        for number, network in enumerate(networks)
        for name, value in network.predictor.state_dict().items()
    }
    predictor.load_state_dict(state)
    precisions = {network.plan.precision for network in networks}
    hardware = HardwareConfig(precision=precisions.pop() if len(precisions) == 1 else _PLAIN)  # type: ignore[arg-type]
    return Network(
        checkpoint=Path(),
        predictor=predictor.eval(),
        plan=plan_for(hardware, accelerator, None),
        facts=SampleFacts(facts.classes, encoding),
        batch_size=batch_size or min(network.batch_size for network in networks),
        num_workers=networks[0].num_workers if num_workers is None else num_workers,
        cache_dir=networks[0].cache_dir,
    )


def _is_image(facts: SampleFacts) -> bool:
    return bool(facts.encoding["kind"] == "image")


def _view(facts: SampleFacts) -> dict[str, Any] | None:
    """What a member is shown of a stored image, as `models.joined` keeps it."""
    encoding = facts.encoding
    if not _is_image(facts):
        return None
    names = ("stored_size", "image_size", "crop_pct", "interpolation")
    return {"is_byte": encoding["dtype"] == "uint8", **{name: encoding[name] for name in names if name in encoding}}


def write_ensemble(
    result: EnsembleResult,
    network: Network,
    base: Member | None,
    splits: JointSplits | None,
    output: str | os.PathLike[str] | None,
) -> EnsembleResult:
    """Write the folder of an ensemble: that of a run, where a member came with its own.

    The recipe, by which a folder is a run, is written last but for the summary.

    Args:
        base: the member whose samples are those of the ensemble; None: no member came with its run.
        splits: of these samples.

    Returns:
        The result, with the places of what was written.

    Raises:
        RunError: if another process has begun a run there meanwhile.
    """
    folder = Path(output) if output is not None else claim_folder("ensemble", numbers_first=True)
    run = RunDir.create(folder)
    result = replace(result, output=run.path, checkpoint=run.best_checkpoint, is_run=base is not None)
    precision = network.plan.precision
    save_file(
        {
            HYPER_PARAMETERS: vars(network.predictor.settings),
            "state_dict": {name: value.cpu() for name, value in network.predictor.state_dict().items()},
            SAMPLE_FACTS: {**network.facts.to_dict(), "batch_size": network.batch_size, "precision": precision},
            **network.predictor.learned(),
        },
        run.best_checkpoint,
    )
    write_json(run.ensemble, result.to_dict())
    if base is None or splits is None or base.run is None or base.manifest is None:
        return result
    base.manifest.with_splits(splits.splits).with_encoding(network.facts.encoding).write(run.manifest)
    if base.run.run.actions.exists():
        write_text(run.actions, base.run.run.actions.read_text(encoding="utf-8"))
    write_json(run.environment, environment.describe(base.run.recipe.training.seed))
    write_text(run.recipe, dump(_recipe(base.run)))
    begin_attempt(run, 0, None)
    _summary(run, result, network, base.run)
    return result


def _recipe(base: OpenedRun) -> Recipe:
    """Where the samples of an ensemble are and how they are read: the recipe of the run that they come from."""
    recipe = copy.deepcopy(base.recipe)
    recipe.logging.name = recipe.logging.run_dir = recipe.training.resume = None
    recipe.training.checkpoint_dir = None
    recipe.training.monitor, recipe.training.mode = "val/loss", "min"
    recipe.data.num_folds = recipe.data.fold = None
    recipe.model.weights, recipe.model.pretrained = None, False
    return recipe


def _summary(run: RunDir, result: EnsembleResult, network: Network, base: OpenedRun) -> None:
    named = {"accuracy": "accuracy", "nll": "loss"}
    is_own = result.judged in ("val", "test")  # out of fold they are of single folds, not of this network
    tested = {f"{result.judged}/{named[name]}": value for name, value in result.figures.items() if is_own}
    write_summary(
        run,
        Ending(
            status="finished",
            message="",
            wall_s=0.0,
            epochs=0,
            global_step=0,
            classes=network.classes,
            num_samples={split: result.splits.get(split, 0) for split in ("train", "val", "test")},
            num_devices=1,
            checkpoints={"last": None, "best": str(run.best_checkpoint.absolute()), "kept": []},
            monitor="val/loss",
            mode="min",
            tested=tested,
            facts={
                "dataset": base.recipe.data.origin,
                "arch": network.predictor.settings.name,
                "num_parameters": sum(p.numel() for p in network.predictor.parameters()),
                "device": network.plan.device_type,
                "precision": network.plan.precision,
                "confused_pairs": [],
                "hardest": [],
                "near_duplicates": None,
            },
        ),
    )
