"""Questions to a run: worst samples, histories, confusions, worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger_rows import make_rows
from places import GOLDEN

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError, RunError
from litscope.ledger.queries import Confusion, classes, confusion, most_confused, worst
from litscope.ledger.schema import Rows
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir

LEDGER_V1 = RunDir(GOLDEN / "ledger_v1")
NAMES = ["ant", "bee", "wasp"]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "lr=0.1")  # a name that Parquet readers could take for a partition
    manifest = pa.table({"sample_id": pa.array(range(100), pa.int64()), "key": [f"{i:03d}.jpg" for i in range(100)]})
    pq.write_table(manifest.replace_schema_metadata({b"litscope": json.dumps({"classes": NAMES})}), run.manifest)
    begin_attempt(run, 0, None)
    return run


def write(run: RunDir, *blocks: Rows, attempt: int = 1) -> None:
    with LedgerWriter(run, attempt) as writer:
        for block in blocks:
            writer.put(block)


def visit(sample: int, epoch: int, value: float, **facts: object) -> Rows:
    """One sample seen once; every float signal is `value`."""
    return make_rows(10 * epoch + 5, epoch=epoch, ids=[sample], value=value, **facts)  # type: ignore[arg-type]


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["sample_id"] for row in rows]


def test_worst_by_mean_over_the_last_epochs(run: RunDir) -> None:
    losses = {0: [9, 9, 1, 1], 1: [0, 0, 3, 5], 2: [0, 0, 4, 0], 3: [7, 7, 0, 0]}
    for epoch in range(4):
        write(run, *[visit(s, epoch, v[epoch], label=1, pred=epoch % 3) for s, v in losses.items()])
    found = worst(run, 3, last_epochs=2)
    assert found[0] == {
        "sample_id": 1,
        "key": "001.jpg",
        "label": 1,
        "label_name": "bee",
        "pred": 0,
        "pred_name": "ant",
        "mean": 4.0,
        "last": 5.0,
        "num_visits": 2,
    }
    assert [(row["sample_id"], row["mean"], row["last"]) for row in found] == [(1, 4, 5), (2, 2, 0), (0, 1, 1)]
    assert [(row["sample_id"], row["mean"]) for row in worst(run, 1, last_epochs=4)] == [(0, 5.0)]
    assert [row["num_visits"] for row in worst(run, 9, last_epochs=50)] == [4, 4, 4, 4]


@pytest.mark.parametrize(("by", "expected"), [("loss", [2, 0, 1]), ("margin", [1, 0, 2]), ("p_label", [1, 0, 2])])
def test_worst_is_highest_loss_or_lowest_margin_or_probability(run: RunDir, by: str, expected: list[int]) -> None:
    write(run, visit(0, 0, 0.2), visit(1, 0, -0.5), visit(2, 0, 0.9))
    assert ids(worst(run, by=by)) == expected  # type: ignore[arg-type]


def test_equal_means_are_ranked_by_id(run: RunDir) -> None:
    write(run, *[visit(s, 0, 1.0) for s in (5, 3, 9, 1)])
    assert ids(worst(run, 3)) == [1, 3, 5]


def test_unlabelled_samples_and_values_that_are_no_number_are_left_out(run: RunDir) -> None:
    write(run, visit(0, 0, 1.0), visit(1, 0, float("nan"), label=-1), visit(2, 0, float("nan")))
    assert ids(worst(run)) == [0]


def test_each_split_is_ranked_alone_with_its_own_last_epoch(run: RunDir) -> None:
    write(run, visit(0, 0, 1.0), visit(0, 9, 2.0), visit(50, 3, 4.0, split="val", phase="eval"))
    assert [(row["sample_id"], row["mean"]) for row in worst(run, split="val", last_epochs=1)] == [(50, 4.0)]
    assert [row["mean"] for row in worst(run, split="train", last_epochs=1)] == [2.0]


def test_an_evaluation_of_a_few_training_samples_does_not_hide_the_others(run: RunDir) -> None:
    write(run, visit(0, 0, 1.0), visit(1, 0, 3.0))
    write(run, visit(0, 0, 9.0, phase="eval"))
    assert ids(worst(run)) == [1, 0]
    assert ids(worst(run, phase="eval")) == [0]


def test_clean_passes_stand_in_where_training_rows_are_blended(run: RunDir) -> None:
    write(run, visit(0, 0, 1.0, phase="eval"), visit(1, 0, 3.0, phase="eval"))
    assert ids(worst(run)) == [1, 0]


def test_confusion_passes_over_an_evaluation_of_a_few_tagged_samples(run: RunDir) -> None:
    whole = [make_rows(20, epoch=1, split="val", phase="eval", ids=[i], label=0, pred=1) for i in range(4)]
    write(run, *whole, make_rows(25, epoch=2, split="val", phase="eval", ids=[0], label=0, pred=2))
    assert confusion(run, "val").tolist() == [[0, 4, 0], [0, 0, 0], [0, 0, 0]]


def test_superseded_rows_do_not_count(run: RunDir) -> None:
    write(run, visit(0, 0, 1.0), visit(0, 1, 100.0))
    second = begin_attempt(run, 10, "last.ckpt")
    write(run, visit(0, 1, 3.0), attempt=second)
    assert worst(run)[0]["mean"] == 2.0
    assert worst(run)[0]["num_visits"] == 2


def test_what_cannot_be_asked(run: RunDir) -> None:
    with pytest.raises(RunError, match="holds no signals"):
        worst(run)
    with pytest.raises(ConfigError, match="'el2n'; choose loss, margin, p_label, entropy, neighbour_distance"):
        worst(run, by="el2n")  # type: ignore[arg-type]
    write(run, visit(0, 0, 1.0))
    with pytest.raises(RunError, match=r"no rows of split 'trian'; it has train\. Did you mean 'train'"):
        worst(run, split="trian")
    with pytest.raises(RunError, match="no rows of split 'test'"):
        confusion(run, "test")
    run.manifest.unlink()
    with pytest.raises(RunError, match=r"manifest\.parquet is missing or is not a manifest"):
        worst(run)


def test_confusion_counts_the_last_evaluation_only(run: RunDir) -> None:
    for step in (10, 20):  # twice in one epoch
        pairs = [(0, 0), (0, 1), (0, 1), (2, 1)] if step == 20 else [(0, 2)] * 4
        write(run, *[
            make_rows(step, epoch=0, split="val", phase="eval", ids=[i], label=label, pred=pred)
            for i, (label, pred) in enumerate([*pairs, (-1, 1)])
        ])  # fmt: skip
    assert confusion(run, "val").tolist() == [[1, 2, 0], [0, 0, 0], [0, 1, 0]]
    write(run, visit(0, 0, 0.0, label=0, pred=0), visit(0, 1, 0.0, label=0, pred=1), visit(1, 1, 0.0, label=1, pred=1))
    assert confusion(run, "train").tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_most_confused_pairs() -> None:
    matrix = np.array([[5, 3, 0], [1, 8, 1], [3, 0, 0]])
    assert most_confused(matrix, NAMES, 3) == [
        Confusion(0, 1, "ant", "bee", 3, 3 / 8),
        Confusion(2, 0, "wasp", "ant", 3, 1.0),
        Confusion(1, 0, "bee", "ant", 1, 0.1),
    ]
    assert most_confused(np.diag([1, 2, 3]), NAMES) == []


def test_a_run_of_format_1_is_understood() -> None:
    assert classes(LEDGER_V1) == NAMES
    found = worst(LEDGER_V1, 2)
    assert [(row["sample_id"], row["key"], row["num_visits"]) for row in found] == [
        (0, "train/000.jpg", 2),
        (2, "train/002.jpg", 2),
    ]
    assert found[0]["mean"] == pytest.approx((4.049164772 + 8.419599533) / 2)
    assert confusion(LEDGER_V1, "val").sum() == 2  # the third has no label
