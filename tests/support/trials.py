"""What the tests of both finders share: a small run that is ready to train, and what a finder must leave as it was."""

import random

import numpy as np
import torch

from litscope.config.flags import recipe_from_keywords
from litscope.curation.recipe_source import make_source
from litscope.training import build
from litscope.training.choosing import choices
from litscope.training.choosing.facts import look
from litscope.training.hardware import check_hardware


def prepared(dataset="digits", **flags):
    """Network, data and hardware of a small run, as the finders get them."""
    recipe = recipe_from_keywords(dataset=dataset, accelerator="cpu", **flags)
    source = make_source(recipe)
    recipe, _ = choices.resolve(recipe, look(source))
    torch.manual_seed(0)
    data = build.make_data(recipe, source).open()
    return build.make_classifier(recipe, data), data, check_hardware(recipe)


def everything(classifier, data):
    """What a finder must leave as it was."""
    return {
        "weights": {name: value.clone() for name, value in classifier.state_dict().items()},
        "gradients": [p.grad for p in classifier.parameters()],
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "trainers": (classifier._trainer, data.trainer),
        "others": (classifier.training, data.batch_size, torch.are_deterministic_algorithms_enabled()),
    }


def assert_unchanged(before, after):
    assert before["weights"].keys() == after["weights"].keys()
    assert all(torch.equal(before["weights"][name], after["weights"][name]) for name in before["weights"])
    assert {k: v for k, v in before.items() if k != "weights"} == {k: v for k, v in after.items() if k != "weights"}
