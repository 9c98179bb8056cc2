"""Batched augmentation: pure in (seed, epoch, sample_id), right in its pixels."""

import numpy as np
import pytest
import torch

from litscope.data.sampler import fold, hash_ids
from litscope.data.transforms import (
    OPERATIONS,
    Augmentation,
    crop_and_flip,
    is_mirrored,
    uniforms,
)
from litscope.shown import evaluation, to_float

POLICIES = ("none", "default", "strong", "autoaugment")


def images(num, channels, side, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 256, (num, side, side, channels), generator=generator, dtype=torch.uint8)
    return rows.permute(0, 3, 1, 2).to(dtype)


def test_torch_and_numpy_hash_alike():
    ids = np.array([0, 1, 2**24 + 1, 2**62, 5])
    expected = hash_ids(ids, fold(3, 4)) ^ np.uint64(0)
    from litscope.data.transforms import _mix, _signed

    got = _mix(torch.from_numpy(ids) ^ _signed(fold(3, 4))).numpy().view(np.uint64)
    assert np.array_equal(got, expected)


def test_uniforms_are_uniform_and_uncorrelated():
    draws = uniforms(torch.arange(20_000), fold(1), 6)
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert torch.allclose(draws.mean(0), torch.full((6,), 0.5), atol=0.01)
    assert torch.allclose(torch.corrcoef(draws.T), torch.eye(6), atol=0.03)
    other_epoch = uniforms(torch.arange(20_000), fold(2), 6)
    assert abs(torch.corrcoef(torch.stack((draws[:, 0], other_epoch[:, 0])))[0, 1]) < 0.03


@pytest.mark.thorough
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("channels", "stored", "size"), [(1, 8, 8), (3, 32, 32), (5, 28, 40), (3, 80, 70)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_sample_is_changed_alike_in_any_batch(policy, channels, stored, size, dtype):
    augment = Augmentation(policy, size, seed=7, flip=True)
    image, ids = images(24, channels, stored, dtype), torch.arange(100, 124)
    whole = augment(image, ids, epoch=3)
    assert whole.shape == (24, channels, size, size)
    assert whole.dtype == torch.float32
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:9]
    assert torch.equal(augment(image[shuffled], ids[shuffled], epoch=3), whole[shuffled])
    assert torch.equal(augment(image, ids, epoch=3), whole)


@pytest.mark.parametrize("policy", POLICIES[1:])
@pytest.mark.parametrize("stored", [32, 80])
def test_epochs_seeds_and_samples_differ(policy, stored):
    image, ids = images(1, 3, stored).expand(16, -1, -1, -1), torch.arange(16)
    first = Augmentation(policy, stored, seed=7, flip=True)
    out = first(image, ids, epoch=0)
    assert not torch.equal(out, first(image, ids, epoch=1))
    assert not torch.equal(out, Augmentation(policy, stored, seed=8, flip=True)(image, ids, epoch=0))
    assert len({tuple(row.flatten()[:200].tolist()) for row in out}) > 10


@pytest.mark.parametrize("policy", POLICIES)
def test_the_global_generator_is_left_alone(policy):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Augmentation(policy, 32, seed=7, flip=True)(images(8, 3, 32), torch.arange(8), epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stored", [32, 80])
def test_nothing_is_read_back_from_the_device(policy, stored):
    """Tensors of the meta device have no values: whoever looks at one raises."""
    image, ids = images(8, 3, stored).to("meta"), torch.arange(8, device="meta")
    assert Augmentation(policy, stored, seed=1, flip=True)(image, ids, epoch=0).shape == image.shape


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stored", [32, 80])
def test_byte_images_stay_in_range(policy, stored):
    out = Augmentation(policy, stored, seed=1, flip=True)(images(64, 3, stored), torch.arange(64), epoch=0)
    assert out.min() >= 0
    assert out.max() <= 1.0001


def test_float_images_keep_their_unit():
    bands = images(64, 4, 32, torch.float32) * 100 - 5000
    out = Augmentation("strong", 32, seed=1, flip=True)(bands, torch.arange(64), epoch=0)
    assert out.min() >= bands.min() - 1
    assert abs(out.mean() - bands.mean()) < 500


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_crop_and_flip_match_the_plain_way(side):
    image, pad = images(40, 3, side), side // 8
    top, left, mirror = torch.rand(3, 40, generator=torch.Generator().manual_seed(2))
    mirror = mirror < 0.5
    out = crop_and_flip(image, top, left, mirror)
    padded = torch.nn.functional.pad(image.float(), (pad,) * 4, mode="reflect").to(torch.uint8)
    for i in range(40):
        y, x = int(top[i] * (2 * pad + 1)), int(left[i] * (2 * pad + 1))
        window = padded[i, :, y : y + side, x : x + side]
        assert torch.equal(out[i], window.flip(-1) if mirror[i] else window)
    assert torch.equal(crop_and_flip(image, top, left, None)[~mirror], out[~mirror])
    assert torch.equal(crop_and_flip(image, top, left, mirror, pad), out)


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_the_padding_bounds_how_far_a_crop_moves(padding):
    image, ids = images(1, 3, 32).expand(400, 3, 32, 32), torch.arange(400)
    out = Augmentation("default", 32, seed=1, flip=False, padding=padding)(image, ids, epoch=0)
    assert len(out.unique(dim=0)) == (2 * padding + 1) ** 2


def test_no_flip_means_no_mirror_image():
    arrow = torch.arange(64, dtype=torch.uint8).expand(32, 1, 64, 64)
    for stored in (arrow, torch.arange(80, dtype=torch.uint8).expand(32, 1, 80, 80)):
        side = stored.shape[-1]
        kept = Augmentation("default", side, seed=1, flip=False)(stored, torch.arange(32), epoch=0)
        flipped = Augmentation("default", side, seed=1, flip=True)(stored, torch.arange(32), epoch=0)
        slope = lambda out: (out[..., 16:-16].diff(dim=-1).mean((1, 2, 3)) > 0).float().mean()  # noqa: E731
        assert slope(kept) == 1
        assert 0.2 < slope(flipped) < 0.8


def test_flips_alternate_from_epoch_to_epoch():
    ids = torch.arange(10_000)
    first = is_mirrored(ids, 0, seed=1)
    assert 0.48 < first.float().mean() < 0.52
    assert [torch.equal(is_mirrored(ids, epoch, seed=1), first) for epoch in range(4)] == [True, False] * 2
    assert torch.equal(is_mirrored(ids, 1, seed=1), ~first)
    assert torch.equal(is_mirrored(ids.flip(0), 0, seed=1), first.flip(0))
    assert 0.45 < (is_mirrored(ids, 0, seed=2) == first).float().mean() < 0.55


@pytest.mark.parametrize("policy", POLICIES[1:])
@pytest.mark.parametrize("stored", [64, 80])
@pytest.mark.flag("augment")
def test_two_epochs_in_a_row_show_both_sides_of_an_image(policy, stored):
    ramp = torch.arange(stored, dtype=torch.uint8).expand(64, 1, stored, stored)
    augment = Augmentation(policy, stored, seed=1, flip=True)
    rises = [
        (augment(ramp.float(), torch.arange(64), epoch)[..., 16:-16].diff(dim=-1).mean((1, 2, 3)) > 0)
        for epoch in range(3)
    ]
    assert torch.equal(rises[0], ~rises[1])
    assert torch.equal(rises[0], rises[2])
    assert 16 < rises[0].sum() < 48


def test_resized_crops_show_parts_of_the_image_undistorted():
    """Each output pixel holds its source position: a linear image stays linear, inside [0, 1], at a real scale."""
    line = (torch.arange(128) + 0.5) / 128
    ramp = torch.stack((line.expand(128, 128), line[:, None].expand(128, 128)))  # x, y
    out = Augmentation("default", 96, seed=1, flip=False)(ramp.expand(200, 2, 128, 128), torch.arange(200), epoch=0)
    width, height = (out[:, axis].amax((1, 2)) - out[:, axis].amin((1, 2)) for axis in (0, 1))
    area = width * height
    assert 0.33 < area.min() < 0.45
    assert 0.9 < area.max() <= 1.0
    assert (width / height).max() < 1.36
    assert out[:, 0].diff(dim=-1).std(-1).max() < 1e-3


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.flag("augment")
def test_every_operation_of_autoaugment_occurs_and_only_identity_changes_nothing(name):
    """With crops and flips undone by a constant border, each image shows its one operation."""
    from litscope.data import transforms

    side, num = 32, 400
    image = images(1, 3, side).expand(num, -1, -1, -1)
    augment = Augmentation("autoaugment", side, seed=3, flip=False)
    values = uniforms(torch.arange(num), fold(3, transforms._AUGMENT, 0), len(transforms._AUTO_DRAWS))
    draw = dict(zip(transforms._AUTO_DRAWS, values.unbind(1), strict=True))
    operation = transforms._operation(draw)
    mine = operation == OPERATIONS.index(name)
    assert 10 < mine.sum() < 60
    out = augment(image, torch.arange(num), epoch=0)
    base = to_float(crop_and_flip(image, draw["top"], draw["left"], None))
    change = (out - base).abs().amax((1, 2, 3))[mine]
    if name in ("identity", "autocontrast"):  # noise spans the whole range already
        assert (change < 1e-5).all()
    else:  # the mildest strengths change little
        assert (change > 0.01).float().mean() > 0.5


def test_autocontrast_stretches():
    gray = (images(600, 1, 16) // 4) + 64
    out = Augmentation("autoaugment", 16, seed=3, flip=False)(gray, torch.arange(600), epoch=0)
    spans = out.amax((1, 2, 3)) - out.amin((1, 2, 3))
    assert (spans > 0.99).sum() >= 20


@pytest.mark.flag("augment")
def test_strong_erases_a_quarter():
    noise = images(400, 1, 32) // 4 + 96  # no change of brightness reaches the ends of the range
    out = Augmentation("strong", 32, seed=1, flip=False)(noise, torch.arange(400), epoch=0)
    # an erased rectangle holds one value; elsewhere the rotation makes all pixels different
    share = torch.stack([(row == row.flatten().mode().values).float().mean() for row in out])
    assert 0.18 < (share > 0.012).float().mean() < 0.32
    assert 0.15 < share.max() < 0.22


def test_evaluation_crops_the_centre_or_enlarges():
    image = images(2, 3, 32)
    assert torch.equal(evaluation(image, 32), image.float() / 255) or torch.allclose(evaluation(image, 32), image / 255)
    assert torch.allclose(evaluation(image, 28), image[:, :, 2:30, 2:30] / 255)
    assert evaluation(image, 48).shape == (2, 3, 48, 48)
    assert torch.equal(evaluation(image.float(), 32), image.float())
