"""The metrics against torchmetrics' own and by hand; rows that must not count; ranks that saw different amounts."""

import math
import os

import pytest
import torch
import torch.multiprocessing
import torchmetrics.classification as tm
from torch.utils._python_dispatch import TorchDispatchMode

from litscope.defaults import METRICS
from litscope.models import metrics
from litscope.models.metrics import PhaseMetrics, counted, ranking

CPU = torch.device("cpu")


def rows(num: int, num_classes: int, seed: int = 0, ties: bool = False) -> tuple[torch.Tensor, ...]:
    """log_p, label, loss of rows whose label is likely the prediction."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, num_classes, (num,), generator=generator)
    logits = torch.randn(num, num_classes, generator=generator)
    logits[torch.arange(num), label] += 1.0
    if ties:  # the same few predictions again and again
        logits = logits[torch.randint(0, 40, (num,), generator=generator)]
    return logits.log_softmax(1), label, torch.rand(num, generator=generator)


def in_batches(phase: PhaseMetrics, data: tuple[torch.Tensor, ...], size: int = 50) -> None:
    for parts in zip(*(tensor.split(size) for tensor in data), strict=True):
        phase.add(*parts)


def theirs(log_p: torch.Tensor, label: torch.Tensor, num_classes: int) -> dict[str, float]:
    """Stock torchmetrics, with the averages that litscope documents."""
    if num_classes == 2:
        preds, one = log_p.exp()[:, 1], {"task": "binary"}
        made = {
            "accuracy": tm.Accuracy(**one),
            "precision": tm.Precision(**one),
            "recall": tm.Recall(**one),
            "f1": tm.F1Score(**one),
            "auroc": tm.AUROC(**one),
            "ap": tm.AveragePrecision(**one),
        }
    else:
        preds, many = log_p.exp(), {"task": "multiclass", "num_classes": num_classes}
        made = {
            "accuracy": tm.Accuracy(**many, average="micro"),
            "precision": tm.Precision(**many, average="macro"),
            "recall": tm.Recall(**many, average="macro"),
            "f1": tm.F1Score(**many, average="macro"),
            "auroc": tm.AUROC(**many, average="macro"),
            "ap": tm.AveragePrecision(**many, average="macro"),
        }
    return {name: float(metric(preds, label)) for name, metric in made.items()}


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_torchmetrics(num_classes, ties):
    log_p, label, loss = rows(500, num_classes, ties=ties)
    phase = PhaseMetrics("val", num_classes)
    in_batches(phase, (log_p, label, loss))
    values = phase.compute(CPU)
    assert list(values) == [f"val/{name}" for name in METRICS]
    assert values["val/loss"] == pytest.approx(float(loss.double().mean()), abs=1e-7)
    for name, expected in theirs(log_p, label, num_classes).items():
        assert values[f"val/{name}"] == pytest.approx(expected, abs=1e-6), name
    expected = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for a, b in zip(label.tolist(), log_p.argmax(1).tolist(), strict=True):
        expected[a, b] += 1
    assert torch.equal(phase.confusion, expected)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_histogram_is_close_and_exact_scores_give_way_to_it(num_classes, monkeypatch):
    data = rows(4000, num_classes)
    exact, binned, switched = (PhaseMetrics(name, num_classes) for name in ("val", "train", "val"))
    for phase in (exact, binned):
        in_batches(phase, data)
    one, other = exact.compute(CPU), binned.compute(CPU)
    # It becomes too much in the middle, so that both ways meet in one epoch.
    monkeypatch.setattr(metrics, "FOLD_ROWS", 500)
    monkeypatch.setattr(metrics, "EXACT_VALUES", 2000 if num_classes > 2 else 1000)
    switched = PhaseMetrics("val", num_classes)
    in_batches(switched, data)
    third = switched.compute(CPU)
    for name in METRICS:
        tolerance = 3e-4 if name in ("auroc", "ap") else 1e-9
        assert other[f"train/{name}"] == pytest.approx(one[f"val/{name}"], abs=tolerance)
        assert third[f"val/{name}"] == other[f"train/{name}"]
    assert other["train/auroc"] != one["val/auroc"]


def test_ranking_by_hand():
    # From the top: positive; a tie of one positive and one negative; negative.
    positives, negatives = torch.tensor([[1], [1], [0]]), torch.tensor([[0], [1], [1]])
    auroc, ap = ranking(positives, negatives)
    assert float(auroc) == pytest.approx((1.5 + 2) / 4)
    assert float(ap) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_counts_by_hand():
    values = counted(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    assert float(values["accuracy"]) == pytest.approx(5 / 6)
    assert float(values["precision"]) == pytest.approx((1 + 2 / 3) / 2)  # the third class occurs nowhere
    assert float(values["recall"]) == pytest.approx((3 / 4 + 1) / 2)
    assert float(values["f1"]) == pytest.approx((6 / 7 + 4 / 5) / 2)
    binary = counted(torch.tensor([[5, 2], [1, 4]]))
    assert float(binary["precision"]) == pytest.approx(4 / 6)
    assert float(binary["recall"]) == pytest.approx(4 / 5)


def test_certain_predictions_still_rank():
    """Probabilities that round to 1 in float32 differ in their logits, which is what ranks them."""
    logits = torch.tensor([[0.0, 30.0], [0.0, 40.0], [0.0, 20.0]])
    phase = PhaseMetrics("val", 2)
    phase.add(logits.log_softmax(1), torch.tensor([0, 1, 0]), torch.zeros(3))
    assert phase.compute(CPU)["val/auroc"] == 1.0


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_outermost_bins_hold_the_extremes(num_classes):
    """Odds beyond every bin's edge; the histogram is that of a phase of training."""
    phase = PhaseMetrics("train", num_classes)
    logits = torch.full((2, num_classes), -1e30)
    logits[0, 0] = logits[1, 1] = 0.0
    phase.add(logits, torch.tensor([0, 1]), torch.zeros(2))
    found = phase.compute(CPU)
    assert (found["train/auroc"], found["train/ap"]) == (1.0, 1.0)


def test_rows_without_label_count_nowhere():
    data = rows(300, 4)
    kept = torch.arange(300) % 4 != 0
    whole, alone = PhaseMetrics("val", 4), PhaseMetrics("val", 4)
    in_batches(whole, (data[0], torch.where(kept, data[1], -1), data[2]))
    in_batches(alone, tuple(tensor[kept] for tensor in data))
    assert whole.compute(CPU) == pytest.approx(alone.compute(CPU))
    assert int(whole.confusion.sum()) == int(kept.sum())


def test_class_that_is_absent_is_left_out_of_the_means():
    """No warning either: the suite turns warnings into errors."""
    log_p, label, loss = rows(200, 4)
    label[label == 3] = 0
    phase = PhaseMetrics("val", 4)
    phase.add(log_p, label, loss)
    values = phase.compute(CPU)
    by_class = [tm.BinaryAUROC()(log_p[:, c].exp(), (label == c).long()) for c in range(3)]
    assert values["val/auroc"] == pytest.approx(float(torch.stack(by_class).mean()), abs=1e-6)


def test_only_one_class_has_no_auroc():
    phase = PhaseMetrics("val", 3)
    phase.add(rows(10, 3)[0], torch.zeros(10, dtype=torch.int64), torch.ones(10))
    values = phase.compute(CPU)
    assert math.isnan(values["val/auroc"])
    assert values["val/loss"] == 1.0


def test_empty_phase_reports_nothing_and_the_next_epoch_starts_afresh():
    phase = PhaseMetrics("val", 3)
    assert phase.compute(CPU) == {}
    assert phase.confusion is None
    phase.add(*rows(10, 3))
    first = phase.compute(CPU)
    phase.add(*rows(10, 3, seed=1))
    phase.reset()
    phase.add(*rows(10, 3))
    assert phase.compute(CPU) == first


@pytest.mark.parametrize("name", ["train", "val"])
def test_an_epoch_makes_no_metrics_anew(name, monkeypatch):
    """On a GPU the host would wait for each tensor that a new one brings there; also after exact scores gave way."""
    monkeypatch.setattr(metrics, "EXACT_VALUES", 100)
    made = []
    original = metrics.PhaseCounts.__init__
    monkeypatch.setattr(
        metrics.PhaseCounts, "__init__", lambda self, *args: (made.append(self), original(self, *args))[1]
    )
    phase = PhaseMetrics(name, 3)
    phase.add(*rows(500, 3))
    phase.compute(CPU)
    assert phase.state() == {}
    phase.add(*rows(20, 3, seed=1))
    found = phase.compute(CPU)
    assert len(made) == 1
    fresh = PhaseMetrics(name, 3)
    fresh.add(*rows(20, 3, seed=1))
    assert found == fresh.compute(CPU)


class NoReadBack(TorchDispatchMode):
    """Fails where a tensor's value comes to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket not in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.masked_select,
            torch.ops.aten.is_nonzero,
        ), f"{func} reads the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["train", "val"])
def test_nothing_is_read_back_while_rows_come_in(name, monkeypatch):
    monkeypatch.setattr(metrics, "FOLD_ROWS", 100)
    monkeypatch.setattr(metrics, "EXACT_VALUES", 1000)
    phase = PhaseMetrics(name, 5)
    data = rows(400, 5)
    with NoReadBack():
        in_batches(phase, data)
        with pytest.raises(AssertionError, match="reads the device"):
            data[0].sum().item()


def _one_rank(rank: int, folder: str, shares: list[int]) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(shares))
    data = rows(sum(shares), 4)
    start = sum(shares[:rank])
    results = {}
    for name in ("val", "train"):
        phase = PhaseMetrics(name, 4)
        if shares[rank]:
            in_batches(phase, tuple(tensor[start : start + shares[rank]] for tensor in data), 7)
        results[name] = (phase.compute(CPU), phase.confusion)
    # Only the first rank has too much to stay exact: all must give up exactness together.
    metrics.FOLD_ROWS, metrics.EXACT_VALUES = 20, 100
    phase = PhaseMetrics("val", 4)
    in_batches(phase, tuple(tensor[start : start + shares[rank]] for tensor in data), 7)
    results["both"] = (phase.compute(CPU), phase.confusion)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shares", [[60, 13], [50, 0]])
def test_ranks_with_unequal_shares_agree_with_one_process(tmp_path, shares):
    if os.name != "posix":
        pytest.skip("gloo over a file")
    torch.multiprocessing.start_processes(_one_rank, (str(tmp_path), shares), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, as_phase in (("val", "val"), ("train", "train"), ("both", "train")):
        single = PhaseMetrics(as_phase, 4)
        in_batches(single, rows(sum(shares), 4))
        expected = single.compute(CPU)
        for values, confusion in (rank[name] for rank in ranks):
            assert torch.equal(confusion, single.confusion)
            for metric in METRICS:
                got = values[f"{'val' if name == 'both' else name}/{metric}"]
                assert got == pytest.approx(expected[f"{as_phase}/{metric}"], abs=1e-9)
