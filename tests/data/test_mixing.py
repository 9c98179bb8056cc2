"""Mixup and CutMix: labels in the share of the pixels, from the key alone."""

import pytest
import torch

from litscope.data.mixing import mix_batch


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
@pytest.mark.flag("mixup", "cutmix")
def test_mixing_gives_labels_in_the_share_of_the_pixels(mixup, cutmix):
    label = torch.arange(6)
    image = label.float()[:, None, None, None].expand(6, 3, 16, 16)
    seen = set()
    for number in range(30):
        mixed, soft = mix_batch(image, label, 6, mixup=mixup, cutmix=cutmix, key=(1, 0, number))
        assert soft.shape == (6, 6)
        assert torch.allclose(soft.sum(1), torch.ones(6))
        assert torch.allclose(mixed.mean((1, 2, 3)), soft @ label.float(), atol=1e-5)
        seen.add("mixup" if len(mixed[1].unique()) == 1 and soft[1].max() < 1 else "cutmix")
        again = mix_batch(image, label, 6, mixup=mixup, cutmix=cutmix, key=(1, 0, number))
        assert torch.equal(again[0], mixed)
        assert torch.equal(again[1], soft)
    assert seen == ({"mixup"} if not cutmix else {"cutmix"} if not mixup else {"mixup", "cutmix"})


def test_mixing_works_on_tables():
    features, soft = mix_batch(torch.eye(4), torch.arange(4), 4, mixup=1.0, cutmix=0.0, key=(0, 1, 2))
    assert torch.allclose(features, soft)


def test_mixing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mix_batch(torch.ones(4, 3), torch.zeros(4, dtype=torch.long), 2, mixup=1.0, cutmix=0.0, key=(0, 0, 0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0)])
def test_mixing_reads_nothing_back_from_the_device(mixup, cutmix):
    """Tensors of the meta device have no values: whoever looks at one raises."""
    image, label = torch.empty(8, 3, 32, 32, device="meta"), torch.arange(8, device="meta")
    mixed, soft = mix_batch(image, label, 8, mixup=mixup, cutmix=cutmix, key=(0, 0, 0))
    assert mixed.shape == image.shape
    assert soft.shape == (8, 8)
