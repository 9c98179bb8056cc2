"""Data sets inside data sets: which are looked through, and what they tell about their samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from litscope.errors import ConfigError
from litscope.watch import with_ids
from litscope.watch.samples.drawn import drawn_from
from litscope.watch.samples.nesting import classes_of, inside, keys_of, labels_of


class Wrapper(Dataset[Any]):
    """Holds whatever it is given as attributes."""

    def __init__(self, length: int, **attributes: Any) -> None:
        self.length = length
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return index


class Images(Wrapper):
    """As an ImageFolder."""

    def __init__(self, root: Path) -> None:
        super().__init__(3, root=str(root), classes=["a", "b"], targets=[0, 1, 1])
        self.samples = [(str(root / name), 0) for name in ("a/1.png", "b/2.png", "b/3.png")]


def test_a_wrapper_holds_one_data_set_and_is_as_long(tmp_path: Path) -> None:
    images = Images(tmp_path / "train")
    assert inside(images) is None
    assert inside(Wrapper(3, data=images)) == (images, None)
    assert inside(Wrapper(3, data=images, also=images)) == (images, None)
    assert inside(Wrapper(3, data=images, other=TensorDataset(torch.zeros(3)))) is None
    assert inside(Wrapper(4, data=images)) is None
    for indices in ([2, 0], torch.tensor([2, 0]), np.array([2, 0])):
        found = inside(Wrapper(2, data=images, indices=indices))
        assert found is not None
        assert (found[0], found[1].tolist()) == (images, [2, 0])  # type: ignore[union-attr]
    for indices in ([3, 0], [0.5, 1.0], "ab"):
        assert inside(Wrapper(2, data=images, indices=indices)) is None


def test_labels_and_classes_are_those_after_a_target_transform() -> None:
    def told(transform: Any) -> Any:
        data = Wrapper(3, targets=[0, 1, 2], classes=["a", "b", "c"], target_transform=transform)
        labels = labels_of(Subset(data, [2, 0]))
        return None if labels is None else labels.tolist(), classes_of(data)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert (
        told(None)
        == told(torch.tensor)
        == told(lambda label: label + torch.randint(1, ()))
        == (
            [2, 0],
            ("a", "b", "c"),
        )
    )
    assert told(lambda label: (label + 1) % 3) == ([0, 1], ("c", "a", "b"))
    assert told(lambda label: int(label > 0)) == ([1, 0], None), "two classes became one"
    assert told(float) == told(lambda label: label.name) == told(lambda label: label - 1) == (None, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_wrappers_tell_names_and_classes_but_no_labels(tmp_path: Path) -> None:
    wrapper = Wrapper(2, subset=Subset(Images(tmp_path / "train"), [2, 0]), transform=len)
    assert keys_of(wrapper) == ["train/b/3.png", "train/a/1.png"]
    assert classes_of(wrapper) == ("a", "b")
    assert labels_of(wrapper) is None, "it may have made others"
    assert with_ids(wrapper).names() == keys_of(wrapper)
    assert with_ids(wrapper, keys=["x", "y"]).names() == ["x", "y"]
    with pytest.raises(ConfigError, match="keys has 'x' more than once"):
        with_ids(wrapper, keys=["x", "x"])


def test_what_a_loader_draws() -> None:
    one, two = with_ids(list(range(4))), with_ids(list(range(3)))
    two.is_known_as(10, np.arange(3))
    whole = ConcatDataset([Wrapper(4, inner=one), Subset(two, [2, 1]), Subset(one, [0])])
    drawn = drawn_from(Subset(whole, [6, 4, 0, 5]))
    assert drawn is not None
    assert drawn.ids().tolist() == [0, 12, 0, 11]
    assert [(data is one, indices.tolist()) for data, indices in drawn.pieces() if indices is not None] == [
        (True, [0, 0]),
        (False, [2, 1]),
    ]
    two.leave_out(np.array([12]))
    assert drawn.is_kept(np.arange(4)).tolist() == [True, False, True, True]
    assert drawn_from(TensorDataset(torch.zeros(3))) is None
    hidden = drawn_from(Wrapper(9, parts={"a": [one], "b": two}))
    assert hidden is not None
    assert (hidden.is_exact, hidden.datasets) == (False, [one, two])


def test_an_item_counted_from_the_end_has_its_own_id() -> None:
    data = with_ids(["a", "b", "c"])
    data.is_known_as(5, np.array([2, 0, 1]))
    assert [data[i] for i in (-1, -3, 0)] == [("c", 6), ("a", 7), ("a", 7)]
