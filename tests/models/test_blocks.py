"""Which parts of a network are gathered, or computed again, one at a time."""

import pytest
import timm
import torch
from torch import nn

from litscope.models.networks.blocks import blocks_of, called_parts, in_words, large_parts


def block(width=4):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class Attention(nn.Module):
    """Uses the weights of its projection without calling it."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        return self.out(x @ self.projection.weight)


def test_blocks_are_the_innermost_repeats_of_several_layers():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(block(), block()), nn.Sequential(block()), nn.Linear(4, 2))
    # the single one stands in a sequence of its own, which is as a whole beside the other
    assert list(blocks_of(net)) == ["1.0", "1.1", "2"]
    assert blocks_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))) == {}
    assert blocks_of(nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(3)))) == {}


def test_blocks_of_networks_of_timm():
    names = [f"blocks.{i}" for i in range(6)]
    assert list(blocks_of(timm.create_model("test_vit", num_classes=3))) == names
    found = blocks_of(timm.create_model("test_convnext", num_classes=3))
    assert {"stages.1.blocks.0", "stages.1.blocks.1"} <= found.keys()
    assert "stages.1" not in found


def test_large_parts_leave_out_what_is_in_the_parts_inside_them():
    net = nn.Sequential(nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2)), nn.Linear(2, 40))
    called = called_parts(net, lambda: net(torch.zeros(1, 10)))
    assert list(large_parts(net, 100, called)) == ["0.0", "1"]
    assert list(large_parts(net, 20, called)) == ["0.0", "0.1", "1"]
    assert list(large_parts(net, 122, called)) == ["0"]
    assert large_parts(net, 1000, called) == {}


def test_what_only_lends_its_weights_is_no_part_of_its_own():
    net = nn.Sequential(Attention(), nn.Linear(4, 2))
    net[0].train()
    called = called_parts(net, lambda: net(torch.zeros(1, 4)))
    assert called == {"0", "0.out", "1"}
    assert list(large_parts(net, 10, called)) == ["0.out", "0", "1"]
    assert net.training
    assert net[0].training


@pytest.mark.parametrize(
    ("number", "words"), [(1, "a (1 Linear)"), (2, "a and b (2 Linear)"), (3, "a ... c (3 Linear)")]
)
def test_parts_in_words(number, words):
    assert in_words({name: nn.Linear(1, 1) for name in "abc"[:number]}) == words
