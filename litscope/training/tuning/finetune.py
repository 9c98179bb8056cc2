"""What a run with weights does before its first step: the features that its head trains on, first or alone.

The head of such a run is a part of the whole network, which is what checkpoints hold, so evaluation, prediction and
whoever loads it take images as ever.
"""

from __future__ import annotations

import os
import time

import numpy as np
import torch

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.console import say
from litscope.data.draws import Draws
from litscope.data.overlay import Overlay
from litscope.features.extraction import extract
from litscope.features.head import fit_head
from litscope.launch.places import rank_of_process
from litscope.ledger.journal.actions import decide, decisions
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training.hardware import Plan
from litscope.training.prepare import Prepared


def begin_tuning(start: Prepared, classifier: Classifier) -> None:
    """Before the first step: compute the features that the run trains its head on, first or alone.

    Args:
        start: the prepared run; its data then hand over features where only the head is trained.
        classifier: with its network and weights. The head of a new `lp-ft` run is fitted.

    Raises:
        ConfigError: for a table, which has no features.
    """
    finetune, data = start.recipe.model.finetune, start.data
    if finetune == "full" or (finetune == "lp-ft" and start.checkpoint is not None):
        return
    if data.kind == "table":
        raise refuse("finetune", finetune, "it is for images: a network for tables trains whole. Leave it out.")
    if start.checkpoint is not None:  # the weights of the body
        classifier.load_state_dict(load_checkpoint(start.checkpoint)["state_dict"])
    num_views = start.recipe.model.feature_views if finetune == "head" else 0
    decided = _decided(start)
    fitted = decided.active(data.readable(data.manifest.ids("train", labelled=False)))
    wanted = data.manifest.sample_ids if finetune == "head" else fitted
    began = time.monotonic()
    views = extract(classifier, data, device_of(start.plan), [None, *range(num_views)], wanted)
    took_s, plain = time.monotonic() - began, views[0]
    if finetune == "head":
        data.use_features(views)
        more = f" in {len(views)} views" if num_views else ""
        what = f"the head trains on them{more}"
    else:
        labels, weights = decided.labels.numpy(), decided.weight_of(torch.from_numpy(fitted))
        shares = None if weights is None else weights.numpy()
        if start.recipe.data.sampler == "balanced":  # what is drawn more often counts more
            balanced = Draws(labels).shares(fitted)
            shares = (balanced / balanced.mean() * (1.0 if shares is None else shares)).astype(np.float32)
        accuracy = fit_head(classifier, plain[fitted], labels[fitted], shares)
        what = f"the head is fitted to them, {accuracy:.1%} right on the training images"
    if rank_of_process(start.plan.num_nodes) == 0:
        say(f"features: {plain.shape[1]:,} of each of {len(wanted):,} images, in {took_s:.0f} s; {what}")


def threads_of_steps(recipe: Recipe) -> int | None:
    """Threads that torch trains with: as the recipe says, but a head on features gains nothing from a second one, which
    waits for the first between any two operations, and the longer the busier the machine.
    """
    is_open = recipe.hardware.num_threads is None or "hardware.num_threads" in recipe.chosen
    return 1 if recipe.model.finetune == "head" and is_open else recipe.hardware.num_threads


def _decided(start: Prepared) -> Overlay:
    """The labels, discards and weights with which a run begins: those of the source, and what was decided since."""
    state = decide(start.actions) if start.folder is None else decisions(RunDir(start.folder))
    place = {name: index for index, name in enumerate(start.data.classes)}
    overlay = Overlay(start.data.manifest.labels)
    count = len(start.data.manifest)
    overlay.set(
        [i for i in state.discarded if i < count],
        {i: place[name] for i, name in state.labels.items() if i < count and name in place},
        {i: weight for i, weight in state.weights.items() if i < count},
    )
    return overlay


def device_of(plan: Plan) -> torch.device:
    """The device of this process of a run."""
    if plan.device_type != "cuda":
        return torch.device(plan.device_type)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
