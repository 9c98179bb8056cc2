"""The features of batches, by several threads: every row is its image's, whoever computes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from litscope.errors import DataError, ModelError
from litscope.features import batches as feature_batches
from litscope.features.batches import features_of_batches
from litscope.models.predictor import Predictor
from litscope.types import Batch

CPU = torch.device("cpu")


def network(**more: object) -> Predictor:
    torch.manual_seed(0)
    given = {"num_classes": 3, "in_channels": 3, "image_size": 32, **more}
    return Predictor("convnet", **given).eval()  # type: ignore[arg-type]


def some_batches() -> Iterator[Batch]:
    images = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for ids in torch.split(torch.randperm(50, generator=torch.Generator().manual_seed(2)), 16):
        yield {"image": images[ids], "label": torch.zeros_like(ids), "sample_id": ids}


@pytest.fixture(autouse=True)
def _a_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feature_batches, "PIXELS", 3 * 32**2)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_rows_are_those_of_their_images_with_any_number_of_threads() -> None:
    net, found = network(), []
    assert isinstance(net.head, torch.nn.Linear)
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        rows = np.zeros((50, net.head.in_features), np.float16)
        for ids, features in features_of_batches(net, some_batches(), CPU):
            rows[ids] = features
        found.append(rows)
        assert torch.get_num_threads() == num_threads
    assert np.array_equal(found[0], found[1])
    for batch in some_batches():
        expected = net.features(batch["image"]).numpy()
        assert np.allclose(found[0][batch["sample_id"].numpy()], expected, atol=2e-3)
    assert not net.head._forward_pre_hooks


def test_whatever_goes_wrong_is_told_and_leaves_the_threads_as_they_were() -> None:
    def broken() -> Iterator[Batch]:
        yield from some_batches()
        raise DataError("gone")

    torch.set_num_threads(2)
    with pytest.raises(DataError, match="gone"):
        list(features_of_batches(network(), broken(), CPU))
    assert torch.get_num_threads() == 2

    several = network()
    assert several.head is not None
    several.head.register_forward_pre_hook(lambda module, _: (torch.zeros(1, module.in_features),))
    with pytest.raises(ModelError, match="one row of features for each image"):
        list(features_of_batches(several, some_batches(), CPU))
    assert torch.get_num_threads() == 2
