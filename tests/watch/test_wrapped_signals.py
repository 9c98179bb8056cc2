"""Signals of a script's own, and the shapes of trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from watched import TRAIN, rows

import litscope.watch as wl
from litscope.errors import ConfigError

RUN = Path("run")


@pytest.fixture(autouse=True)
def watched(in_tmp: Path) -> Iterator[None]:
    wl.watch_or_edit({"run_dir": "run"}, flag="hp")
    wl.watch_or_edit(TRAIN, flag="data", loader_name="train_loader", batch_size=10)
    yield
    wl.clear_all()


@pytest.fixture
def loss_of() -> Any:
    return wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="CE")


def values(name: str) -> list[tuple[int, int, float]]:
    """(step, sample_id, value), once the run is closed."""
    wl.keep_serving()
    return rows(RUN, f"select step, sample_id, value from custom where name = '{name}' order by all")


LOGITS, TARGET = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([0, 1])


def test_a_signal_of_a_sample_subscribes_to_a_loss(loss_of: Any) -> None:
    seen: list[Any] = []

    @wl.signal(name="double", subscribe_to="CE", compute_every_n_steps=2, min_step=2)
    def double(sample: Any) -> float:
        seen.append(sample)
        return 2 * sample.subscribed_value

    for step in range(5):
        losses = loss_of(LOGITS, TARGET, batch_ids=torch.tensor([3, 8]), preds=LOGITS.argmax(1), step=step)
    assert double.__name__ == "double"
    expected = [(step, i, 2 * float(loss)) for step in (2, 4) for i, loss in zip((3, 8), losses, strict=True)]
    assert np.allclose(values("double"), expected)
    last = seen[-1]
    assert (last.sample_id, last.step, last.origin, int(last.preds), int(last.targets)) == (8, 4, "train_loader", 2, 1)
    assert torch.equal(last.logits, LOGITS[1])
    assert last.is_dynamic
    assert not last.is_static


def test_inputs_may_come_in_any_order_and_signals_follow_from_signals(loss_of: Any) -> None:
    @wl.signal(name="last", inputs=["sum"], batched=True)
    def last(batch: Any) -> Any:
        return torch.as_tensor(batch.inputs["sum"]) * 10

    @wl.signal(name="sum", inputs=["other", "CE"], batched=True)
    def total(batch: Any) -> Any:
        return batch.inputs["other"] + batch.inputs["CE"]

    ids = torch.tensor([0, 1])
    wl.save_signals({"other": torch.ones(2)}, ids)
    losses = loss_of(LOGITS, TARGET, batch_ids=ids)
    loss_of(LOGITS, TARGET, batch_ids=ids)  # the same batch: computed once
    loss_of(LOGITS, TARGET, batch_ids=ids + 2)  # another, of which the other number is not known
    assert np.allclose(values("last"), [(0, i, 10 * (float(loss) + 1)) for i, loss in enumerate(losses)])


def test_a_signal_may_look_back(loss_of: Any) -> None:
    lengths: list[list[int]] = []

    @wl.signal(name="change", inputs=["CE"], batched=True)
    def change(batch: Any) -> Any:
        history = batch.history("CE")
        lengths.append([len(history[i]) for i in batch.sample_ids])
        before = batch.latest("change", default=0.0)
        return batch.inputs["CE"] - np.array([history[i][0] for i in batch.sample_ids]) + 0 * before

    for step in range(3):
        loss_of(LOGITS * step, TARGET, batch_ids=[5, 6], step=step)
    assert lengths == [[1, 1], [2, 2], [3, 3]]
    assert [value for step, _, value in values("change") if step == 0] == [0, 0]


def test_a_signal_that_needs_a_fresh_value_says_so(loss_of: Any) -> None:
    @wl.signal(name="needs", subscribe_to="CE", batched=True, ingests=["other"])
    def needs(batch: Any) -> Any:
        return batch.latest("other", require_fresh=True)

    wl.save_signals({"other": [1.0, 2.0]}, [0, 1], step=1)
    loss_of(LOGITS, TARGET, batch_ids=[0, 1], step=1)
    with pytest.raises(wl.StaleSignalError, match="'other' has no value at step 2 for 2 of 2 samples"):
        loss_of(LOGITS, TARGET, batch_ids=[0, 1], step=2)
    assert values("needs") == [(1, 0, 1.0), (1, 1, 2.0)]


def test_a_signal_that_fails_is_said_once_and_training_goes_on(
    loss_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    @wl.signal(name="broken", subscribe_to="CE")
    def broken(sample: Any) -> float:
        return 1 / 0

    for step in range(3):
        loss_of(LOGITS, TARGET, batch_ids=[0, 1], step=step)
    assert capsys.readouterr().err.count("signal 'broken' failed at step 0") == 1
    assert not values("broken")


def test_misuse_of_a_signal_says_what_is_allowed(loss_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wl.signal("you", inputs=["me"])(len)
    for options, message in (
        ({"subscribe_to": "a", "inputs": ["b"]}, "either subscribe_to= or inputs="),
        ({"subscribe_to": "a", "compute_every_n_steps": 0}, "must be 1 or more"),
        ({"subscribe_to": "me"}, "needs itself"),
        ({"inputs": ["CE", "you"]}, "'me' needs itself, by CE, you"),
    ):
        with pytest.raises(ConfigError, match=message):
            wl.signal("me", **options)(len)
    wl.signal("short", subscribe_to="CE", batched=True, unit="nats")(lambda _: [1.0])
    assert "no use for unit" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"shape \(1,\) for 2 samples"):
        loss_of(LOGITS, TARGET, batch_ids=[0, 1])


def test_a_signal_that_waits_in_vain_is_named_at_the_end(loss_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wl.signal("typo", subscribe_to="CEE")(len)
    loss_of(LOGITS, TARGET, batch_ids=[0, 1])
    wl.keep_serving()
    said = capsys.readouterr().err
    assert "signal 'typo' was never computed: nothing was recorded under the name 'CEE'. Did you mean 'CE'?" in said


def test_signals_of_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    @wl.signal
    def first(sample: Any) -> float:
        if sample.sample_id == 1:
            raise ValueError("no")
        return float(sample.data[0])

    wl.signal("of-batches", subscribe_to="CE")(len)
    before = torch.random.get_rng_state()
    wl.compute_signals(TRAIN, origin="mine")
    assert torch.equal(before, torch.random.get_rng_state())
    assert "failed for sample 1" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Did you mean 'first'"):
        wl.compute_signals(TRAIN, signals=["frist"])
    with pytest.raises(ConfigError, match="takes a watched loader or its data set"):
        wl.compute_signals([1, 2])
    found = values("first")
    assert [i for _, i, _ in found] == [0, *range(2, 100)]
    assert found[-1][2] == pytest.approx(float(TRAIN[99][0][0]))


def test_a_context_shows_pictures_in_one_form() -> None:
    gray = torch.tensor([[0.0, 0.5], [1.0, 0.25]])
    assert wl.SignalContext(0, data=gray).image.tolist() == [[[0], [127]], [[255], [63]]]
    assert wl.SignalContext(0, data=torch.zeros(3, 8, 9)).image.shape == (8, 9, 3)
    assert wl.SignalContext(0, data=np.full((8, 9, 3), 7, np.uint8)).image.max() == 7
    assert wl.SignalContext(0).image is None
    assert math.isnan(wl.SignalContext(0).latest("CE"))


# ---- shapes ------------------------------------------------------------------------------------------

T = np.linspace(0, 1, 30)
NOISE = np.random.default_rng(0).normal(0, 0.05, 30)


@pytest.mark.parametrize(
    ("shape", "curve"),
    [
        ("monotonic", 2.3 - 2 * T + NOISE),
        ("plateaued", 2.3 * np.exp(-15 * T) + NOISE),
        ("Flat_high", 3 + NOISE),
        ("high_variance", np.abs(40 * NOISE)),
        ("U_Shape", 4 * (T - 0.5) ** 2 + NOISE),
        ("Spiked", np.where(np.arange(30) == 15, 4, 1) + NOISE),
        ("Forgotten", np.where(T < 0.3, 2 - 6 * T, 2) + NOISE),
        (None, [1.0, 0.5, 0.1]),
    ],
)
def test_shapes_of_losses(shape: str | None, curve: Any) -> None:
    assert wl.classify_loss_shape(curve) == shape
    assert wl.classify_loss_shape(1000 * np.asarray(curve)) == shape, "whatever the unit"


def test_statistics_of_a_trajectory() -> None:
    stats = wl.trajectory_stats([4.0, 3.0, 2.0, 1.0])
    assert stats["n"] == 4
    assert 0 < stats["drop"] < 1
    assert wl.trajectory_stats([1.0]) is None


def test_shapes_are_written_as_tags(loss_of: Any) -> None:
    wl.enable_loss_shape_signal("CE", name="shape", every=1)
    for step in range(6):
        loss_of(LOGITS * step, TARGET, batch_ids=[0, 1], step=step)  # the second is wrong, and ever surer of it
    assert wl.auto_loss_shape_signal_names() == ["CE"]
    assert sum(wl.write_loss_shapes("CE").values()) == 2
    tagged = {shape: wl.get_samples_by_tag(f"loss_shape={shape}") for shape in wl.LOSS_SHAPES}
    assert sorted(i for ids in tagged.values() for i in ids) == [0, 1]

    @wl.signal_classifier(signal="CE")
    def rises(values: Any) -> str | None:
        return "up" if values[-1] > values[0] else "down"

    assert wl.resolve_signal_classifier("CE") is rises
    assert wl.resolve_signal_classifier("x") is wl.classify_loss_shape
    assert wl.write_signal_shapes("CE", tag_name="loss_shape") == {"down": 1, "up": 1}
    assert [wl.get_samples_by_tag(f"loss_shape={shape}") for shape in ("down", "up")] == [[0], [1]]
    with pytest.raises(ConfigError, match="Nothing is recorded under the name 'EC'"):
        wl.write_signal_shapes("EC")
    codes = values("shape")
    assert [value for step, _, value in codes if step < 4] == [-1] * 8
    assert all(value >= 0 for step, _, value in codes if step >= 4)
