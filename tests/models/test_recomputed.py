"""Blocks that are computed twice give the same numbers as blocks that are kept."""

import copy

import pytest
import torch
from torch import nn

from litscope.errors import ModelError
from litscope.models.classifier import Classifier
from litscope.models.networks.blocks import blocks_of
from litscope.models.networks.recomputed import recompute


def network():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Conv2d(3, 3, 1))
    return nn.Sequential(nn.Sequential(block, copy.deepcopy(block)), nn.Flatten(), nn.Linear(48, 2))


def step(net):
    torch.manual_seed(1)
    loss = net(torch.randn(5, 3, 4, 4)).square().sum()
    loss.backward()
    return loss


def test_gradients_statistics_and_names_are_the_same():
    kept, again = network(), network()
    blocks = blocks_of(again)
    calls = []
    blocks["0.0"][0].register_forward_hook(lambda *_: calls.append(1))
    recompute(blocks.values())
    assert kept.state_dict().keys() == again.state_dict().keys()
    for _ in range(2):
        assert torch.equal(step(kept), step(again))
    assert len(calls) == 4  # twice in each step
    for (name, one), (_, two) in zip(kept.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name
    for (name, one), (_, two) in zip(kept.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(one, two), name


def test_an_evaluation_computes_once():
    net, calls = network(), []
    recompute(blocks_of(net).values())
    net[0][0][0].register_forward_hook(lambda *_: calls.append(1))
    net.eval()(torch.randn(5, 3, 4, 4)).sum().backward()
    assert len(calls) == 1


@pytest.mark.flag("activation_checkpointing")
def test_a_network_without_blocks_is_refused_and_others_say_what_is_computed_twice():
    shape = {"num_classes": 3, "in_channels": 1, "image_size": 32}
    with pytest.raises(ModelError, match="convnet has no repeated blocks"):
        Classifier("convnet", **shape, activation_checkpointing=True)
    found = Classifier("test_vit", num_classes=3, in_channels=1, image_size=64, activation_checkpointing=True)
    assert any("computed again in the backward pass: blocks.0 ..." in note for note in found.notes)
