"""Signals computed from logits: right, exact, cheap, and never waiting for the device."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from litscope.errors import LedgerError
from litscope.ledger.schema import FLOAT_SIGNALS, SIGNALS, Rows
from litscope.ledger.signal_buffer import DIRECT_LOGITS, SignalBuffer, compute_signals
from litscope.types import StepOutput


def output(logits: Tensor, label: Tensor | None = None, first_id: int = 0) -> StepOutput:
    size = logits.shape[0]
    label = torch.arange(size) % logits.shape[1] if label is None else label
    ids = torch.arange(first_id, first_id + size)
    return {"loss": torch.tensor(0.0), "sample_loss": torch.zeros(size), "logits": logits, "label": label,
            "sample_id": ids}  # fmt: skip


def record(outputs: list[StepOutput], capacity: int = 65_536) -> Rows:
    buffer = SignalBuffer(capacity)
    for step, one in enumerate(outputs):
        buffer.add(one, step=step, epoch=0, split="train", phase="train")
    return buffer.drain().rows()


def by_definition(z: np.ndarray, y: int) -> dict[str, float]:
    """Each signal of one sample, in float64, as the papers write it."""
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    onehot = np.eye(len(z))[y]
    return {
        "loss": -(z[y] - z.max() - math.log(np.exp(z - z.max()).sum())),
        "p_label": p[y],
        "p_max": p.max(),
        "margin": z[y] - np.delete(z, y).max(),
        "el2n": np.linalg.norm(p - onehot),
        "entropy": -sum(q * math.log(q) for q in p if q > 0),
        "pred": int(z.argmax()),
    }


def test_every_signal_is_computed() -> None:
    assert list(compute_signals(torch.zeros(2, 3), torch.tensor([0, 1]))) == list(SIGNALS)


def test_a_case_worked_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), label 1.
    signals = compute_signals(torch.tensor([[math.log(2.0), 0.0, 0.0]]), torch.tensor([1]))
    assert signals["p_label"].item() == pytest.approx(0.25)
    assert signals["p_max"].item() == pytest.approx(0.5)
    assert signals["loss"].item() == pytest.approx(math.log(4))
    assert signals["margin"].item() == pytest.approx(-math.log(2))
    assert signals["el2n"].item() == pytest.approx(math.sqrt(0.25 + 0.5625 + 0.0625))
    assert signals["entropy"].item() == pytest.approx(1.5 * math.log(2))
    assert signals["pred"].item() == 0


@given(
    num_classes=st.integers(2, 130),
    scale=st.sampled_from([0.0, 0.01, 1.0, 10.0, 80.0]),
    seed=st.integers(0, 10_000),
    class_dim=st.sampled_from([0, 1]),
)
@settings(max_examples=60, deadline=None)
def test_definitions_hold_for_any_logits(num_classes: int, scale: float, seed: int, class_dim: int) -> None:
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=(5, num_classes)) * scale).astype(np.float32)
    y = rng.integers(0, num_classes, 5)
    logits = torch.from_numpy(z if class_dim == 1 else np.ascontiguousarray(z.T))
    signals = compute_signals(logits, torch.from_numpy(y), class_dim)
    for row in range(5):
        expected = by_definition(z[row].astype(np.float64), int(y[row]))
        for name, value in expected.items():
            assert signals[name][row].item() == pytest.approx(value, rel=2e-5, abs=2e-5), name


def test_el2n_does_not_cancel_near_a_perfect_fit() -> None:
    # By sqrt(sum p^2 - 2 p[y] + 1) in float32 this would be 0 or 3e-4.
    signals = compute_signals(torch.tensor([[12.0, 0.0]]), torch.tensor([0]))
    wrong = 1 / (1 + math.exp(12.0))
    assert signals["el2n"].item() == pytest.approx(math.sqrt(2) * wrong, rel=2e-2)


def test_loss_is_torch_s_cross_entropy_bit_for_bit() -> None:
    logits = torch.randn(512, 10, generator=torch.Generator().manual_seed(0)) * 4
    label = torch.arange(512) % 10
    expected = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    assert torch.equal(compute_signals(logits, label)["loss"], expected)


def test_a_tie_predicts_the_lowest_index_and_not_the_label() -> None:
    signals = compute_signals(torch.zeros(4, 10), torch.tensor([9, 3, 0, 5]))
    assert signals["pred"].tolist() == [0, 0, 0, 0]
    assert signals["margin"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    got, expected = record([output(logits)]), record([output(logits.float())])
    for name in FLOAT_SIGNALS:
        assert got.signals[name].dtype == np.float32
        np.testing.assert_array_equal(got.signals[name], expected.signals[name])


def test_a_sample_without_a_label_keeps_its_prediction() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    labelled = compute_signals(logits, torch.tensor([1, 2, 3]))
    signals = compute_signals(logits, torch.tensor([1, -1, -100]))
    for name, signal in SIGNALS.items():
        expected = labelled[name].clone()
        if signal.needs_label:
            expected[1:] = torch.nan
        torch.testing.assert_close(signals[name], expected, equal_nan=True, rtol=0, atol=0)


def test_rows_keep_the_order_ids_labels_and_steps_of_their_batches() -> None:
    big = 2**53 + 1  # not a float64
    buffer = SignalBuffer(capacity=1000)
    for step, (size, split) in enumerate([(3, "train"), (5, "train"), (2, "val")]):
        one = output(torch.randn(size, 4), first_id=big + 10 * step)
        buffer.add(one, step=step, epoch=step // 2, split=split, phase="eval" if split == "val" else "train")
    table = buffer.drain().rows().to_table()
    assert table["sample_id"].to_pylist() == [
        big + 10 * step + i for step, n in ((0, 3), (1, 5), (2, 2)) for i in range(n)
    ]
    assert table["step"].to_pylist() == [0] * 3 + [1] * 5 + [2] * 2
    assert table["epoch"].to_pylist() == [0] * 8 + [1] * 2
    assert table["split"].to_pylist() == ["train"] * 8 + ["val"] * 2
    assert table["phase"].to_pylist() == ["train"] * 8 + ["eval"] * 2
    assert table["label"].to_pylist() == [0, 1, 2, 0, 1, 2, 3, 0, 0, 1]


def test_padding_is_dropped_on_the_host() -> None:
    one = output(torch.randn(4, 3))
    one["sample_id"] = torch.tensor([7, -1, 9, -1])
    rows = record([one])
    assert rows.to_table()["sample_id"].to_pylist() == [7, 9]
    full = rows.to_table().num_rows
    assert (len(rows), full) == (4, 2)


def test_add_says_when_capacity_is_reached_and_nothing_is_lost_beyond_it() -> None:
    buffer = SignalBuffer(capacity=100)
    told = [
        buffer.add(output(torch.randn(30, 3), first_id=30 * i), step=i, epoch=0, split="train", phase="train")
        for i in range(6)
    ]
    assert told == [False, False, False, True, True, True]
    assert len(buffer) == 180
    assert buffer.drain().rows().sample_id.tolist() == list(range(180))
    assert len(buffer) == 0
    assert len(buffer.drain()) == 0
    assert buffer.drain().rows().to_table().num_rows == 0


def test_batches_of_any_size_and_number_of_classes_share_one_buffer() -> None:
    sizes = [(1, 2), (DIRECT_LOGITS, 3), (7, 3), (0, 3), (64, 1000), (5000, 10), (5000, 10), (3, DIRECT_LOGITS * 2)]
    rng = torch.Generator().manual_seed(1)
    outputs, start = [], 0
    for size, num_classes in sizes:
        outputs.append(output(torch.randn(size, num_classes, generator=rng), first_id=start))
        start += size
    rows = record(outputs)
    assert rows.sample_id.tolist() == list(range(start))
    expected = torch.cat([compute_signals(o["logits"], o["label"])["loss"] for o in outputs])
    np.testing.assert_allclose(rows.signals["loss"], expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [3, 10, 100])
def test_bits_do_not_depend_on_what_a_row_is_staged_with(num_classes: int) -> None:
    logits = torch.randn(3000, num_classes, generator=torch.Generator().manual_seed(2)) * 5
    whole = record([output(part, first_id=0) for part in logits.split(64)])
    for batches, drain_every in ((logits.split(64), 3), (logits.split(37), 1000), (logits.split(1), 41)):
        buffer, parts = SignalBuffer(), []
        for i, part in enumerate(batches):
            labels = torch.arange(len(part)) % num_classes
            buffer.add(output(part, labels), step=0, epoch=0, split="train", phase="train")
            if i % drain_every == drain_every - 1:
                parts.append(buffer.drain().rows())
        parts.append(buffer.drain().rows())
        for name in ("p_max", "entropy"):  # independent of the label, which restarts with each batch
            joined = np.concatenate([part.signals[name] for part in parts])
            np.testing.assert_array_equal(joined, whole.signals[name])


def test_the_batch_may_be_overwritten_after_add() -> None:
    for size in (8, 4000):  # staged, and computed at once
        one = output(torch.randn(size, 10))
        buffer = SignalBuffer()
        buffer.add(one, step=0, epoch=0, split="train", phase="train")
        expected = compute_signals(one["logits"].clone(), one["label"].clone())["loss"]
        for name in ("logits", "label", "sample_id"):
            one[name].zero_()
        rows = buffer.drain().rows()
        np.testing.assert_allclose(rows.signals["loss"], expected.numpy(), rtol=1e-5)
        assert rows.sample_id.tolist() == list(range(size))


def test_a_drained_block_is_not_overwritten_by_later_batches() -> None:
    buffer = SignalBuffer()
    buffer.add(output(torch.randn(8, 3)), step=0, epoch=0, split="train", phase="train")
    block = buffer.drain()
    before = {name: values.copy() for name, values in block.rows().signals.items()}
    buffer.add(output(torch.randn(8, 3), first_id=100), step=1, epoch=0, split="train", phase="train")
    buffer.drain()
    assert block.rows().sample_id.tolist() == list(range(8))
    for name, values in block.rows().signals.items():
        np.testing.assert_array_equal(values, before[name])


def test_a_graph_is_not_kept_and_inference_mode_may_come_first() -> None:
    buffer = SignalBuffer()
    with torch.inference_mode():
        buffer.add(output(torch.randn(8, 3)), step=0, epoch=0, split="val", phase="eval")
    logits = torch.randn(8, 3, requires_grad=True)
    buffer.add(output(logits), step=0, epoch=0, split="train", phase="train")
    big = torch.randn(4000, 10, requires_grad=True)
    buffer.add(output(big), step=1, epoch=0, split="train", phase="train")
    with torch.inference_mode():
        block = buffer.drain()
    assert len(block.rows().to_table()) == 4016
    assert logits.grad_fn is None
    assert logits.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_id": torch.arange(4).float()}, r"sample_id must be int64, got float32\. Ids above 16,777,216"),
        ({"sample_id": torch.arange(4).int()}, r"sample_id must be int64, got int32"),
        ({"label": torch.full((4, 3), 1 / 3)}, r"label must be \(B,\) class indices, got \(4, 3\) torch\.float32"),
        ({"label": torch.zeros(4)}, r"label must be \(B,\) class indices"),
        ({"logits": torch.zeros(4, 1)}, r"at least 2 classes, got \(4, 1\)"),
        ({"logits": torch.zeros(4, 3, 2)}, r"logits must be \(B, C\)"),
        ({"logits": torch.zeros(5, 3)}, r"logits \(5, 3\), label \(4,\) and sample_id \(4,\)"),
        ({"sample_id": torch.arange(5)}, r"must have the same number of rows"),
        ({"logits": torch.zeros(4, 3, device="meta")}, r"must be on cpu, got meta, cpu and cpu"),
    ],
)
def test_what_cannot_be_recorded_is_refused(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        record([{**output(torch.randn(4, 3)), **change}])  # type: ignore[typeddict-item]


class NoReading(TorchDispatchMode):
    """Fails where a value is read back to the host or a tensor is copied to another device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not name.startswith(("aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.equal")), name
        result = func(*args, **(kwargs or {}))
        devices = {t.device for t in (*args, result) if isinstance(t, Tensor)}
        assert len(devices) <= 1, f"{name} copies between {devices}"
        return result


@pytest.fixture
def no_reading() -> Iterator[None]:
    with NoReading():
        yield


@pytest.mark.parametrize(("size", "num_classes"), [(64, 10), (64, 1000)])
def test_add_reads_nothing_back(no_reading: None, size: int, num_classes: int) -> None:
    # A meta tensor has no values at all: .item(), .tolist(), .numpy(), bool() and .cpu() raise.
    buffer = SignalBuffer(device="meta")
    one = output(
        torch.empty(size, num_classes, device="meta", dtype=torch.bfloat16),
        torch.zeros(size, device="meta", dtype=torch.int64),
    )
    one["sample_id"] = torch.zeros(size, device="meta", dtype=torch.int64)
    for step in range(300):  # several stages full
        buffer.add(one, step=step, epoch=0, split="train", phase="train")
    assert len(buffer) == 300 * size
    with pytest.raises(NotImplementedError, match="meta"):
        buffer.drain()  # here it does read, which shows that the guard would have seen it


def test_the_guard_sees_a_reading(no_reading: None) -> None:
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.zeros(2).sum().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_add_and_drain_do_not_synchronise() -> None:
    buffer, expected = SignalBuffer(device="cuda"), []
    outputs = [{k: v.cuda() for k, v in output(torch.randn(64, 10), first_id=64 * i).items()} for i in range(400)]
    blocks = []
    buffer.add(outputs[0], step=0, epoch=0, split="train", phase="train")  # type: ignore[arg-type]
    blocks.append(buffer.drain())  # the first one allocates pinned memory
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, one in enumerate(outputs):
            buffer.add(one, step=step, epoch=0, split="train", phase="train")  # type: ignore[arg-type]
            if step % 50 == 49:
                blocks.append(buffer.drain())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = [compute_signals(one["logits"].cpu(), one["label"].cpu())["loss"].numpy() for one in outputs]
    got = np.concatenate([block.rows().signals["loss"] for block in blocks[1:]])
    np.testing.assert_allclose(got, np.concatenate(expected), rtol=1e-4, atol=1e-5)
