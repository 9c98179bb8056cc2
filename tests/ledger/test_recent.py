"""Where samples stand: means over the last epochs, of the visits that count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_runs import NUM_EPOCHS, TRAIN, VAL, asked_run, chance, epoch_rows

from litscope.attempts import begin_attempt
from litscope.errors import LedgerError
from litscope.ledger.queries import worst
from litscope.ledger.scoring.recent import LAST_EPOCHS, RECENT, recent
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.views import sql
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "run")


def test_means_are_over_the_last_epochs(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "long", num_epochs=7)
    found = recent(run)
    assert np.flatnonzero(np.isfinite(found.means["p_label"])).tolist() == [*TRAIN, *VAL]
    assert set(found.means) == set(RECENT)
    expected = [np.mean([chance(i, epoch)[0] for epoch in range(7 - LAST_EPOCHS, 7)]) for i in (*TRAIN, *VAL)]
    assert found.means["p_label"] == pytest.approx(expected)
    assert found.means["entropy"] == pytest.approx([1 - p for p in expected])
    assert found.of("p_label", np.array([14, 5, 99, 5])) == pytest.approx(
        [expected[14], expected[5], np.nan, expected[5]], nan_ok=True
    )
    by_hand = {row["sample_id"]: row["mean"] for row in worst(run, 12, by="p_label")}
    assert [by_hand[i] for i in TRAIN] == pytest.approx(expected[:12])


def test_an_epoch_that_goes_on_does_not_count_and_neither_does_an_evaluation_of_the_training_split(run: RunDir) -> None:
    before = recent(run)
    with LedgerWriter(run, 1) as writer:
        writer.put(epoch_rows(NUM_EPOCHS, TRAIN, "train", "train"))
        writer.put(epoch_rows(0, TRAIN, "train", "eval"))
    assert {name: mean.tolist() for name, mean in recent(run).means.items()} == {
        name: mean.tolist() for name, mean in before.means.items()
    }


def test_a_relabelled_sample_is_told_by_its_new_label(run: RunDir) -> None:
    """Its p_label with the label before says nothing about the one that it has."""
    with LedgerWriter(run, 1) as writer:
        rows = epoch_rows(NUM_EPOCHS, TRAIN, "train", "train", labels={7: 2})
        rows.signals["p_label"][7] = 0.97
        writer.put(rows)
    append_line(run.epoch_metrics, {"epoch": NUM_EPOCHS, "step": 50, "attempt": 1})
    found = recent(run)
    assert found.of("p_label", np.array([7, 2])) == pytest.approx([0.97, 0.1])


def test_without_a_label_only_what_needs_none(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "new", num_epochs=0)
    with LedgerWriter(run, 1) as writer:
        for epoch in range(NUM_EPOCHS):
            rows = epoch_rows(epoch, range(14, 15), "val", "eval", labels={14: -1})
            for name in ("loss", "p_label", "margin", "el2n"):
                rows.signals[name][:] = np.nan
            writer.put(rows)
    found = recent(run)
    ids = np.array([14])
    assert np.isnan([found.of("p_label", ids)[0], found.of("margin", ids)[0]]).all()
    assert np.isfinite([found.of("p_max", ids)[0], found.of("entropy", ids)[0]]).all()


def test_a_run_that_recorded_nothing(tmp_path: Path) -> None:
    found = recent(asked_run(tmp_path / "new", num_epochs=0))
    assert np.isnan([found.means[name] for name in RECENT]).all()


def test_samples_that_the_manifest_does_not_have_are_left_out(run: RunDir) -> None:
    before = recent(run)
    with LedgerWriter(run, 1) as writer:
        writer.put(epoch_rows(NUM_EPOCHS - 1, range(15, 17), "test", "eval", labels={15: 0, 16: 0}))
    found = recent(run, is_thrifty=True)
    assert np.isnan(found.of("p_label", np.array([-1, 15, 16]))).all()
    for name in RECENT:
        np.testing.assert_array_equal(found.means[name], before.means[name])


def test_rows_of_a_lost_attempt_do_not_count(run: RunDir) -> None:
    second = begin_attempt(run, 30, "last.ckpt")
    with LedgerWriter(run, second) as writer:
        rows = epoch_rows(3, TRAIN, "train", "train")
        rows.signals["p_label"][:] = 0.5
        writer.put(rows)
    append_line(run.epoch_metrics, {"epoch": 3, "step": 40, "attempt": second})
    assert recent(run).of("p_label", np.array([7])) == pytest.approx([(3 * 0.02 + 0.5) / 4])


# ---- as columns of `samples` ----------------------------------------------------------------


def test_samples_have_them_as_columns(run: RunDir) -> None:
    found = sql(run, "SELECT sample_id, p_label, p_max, margin, entropy, pred_name FROM samples ORDER BY sample_id")
    means = recent(run)
    for name in RECENT:
        assert found[name].to_pylist() == pytest.approx(means.means[name].tolist())
    assert found["pred_name"].to_pylist()[6:8] == ["ant", "wasp"]
    where = "split = 'train' AND p_label < 0.15"
    assert sql(run, f"SELECT sample_id FROM samples WHERE {where} ORDER BY 1")["sample_id"].to_pylist() == [2, 7]


def test_a_column_of_the_source_gives_way(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "run", p_label=[1.0] * 15, entropy=["x"] * 15)
    row = sql(run, "SELECT source_p_label, p_label, source_entropy FROM samples WHERE sample_id = 7").to_pylist()[0]
    assert row == {"source_p_label": 1.0, "p_label": pytest.approx(0.02), "source_entropy": "x"}


def test_signals_are_read_only_by_a_query_that_names_them(run: RunDir) -> None:
    refresh(run)
    part = next(run.signals.glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    for query in ("SELECT count(*) FROM samples", "SELECT max(suspicion), count(DISTINCT label_name) FROM samples"):
        assert sql(run, query).num_rows == 1
    for query in ("SELECT avg(p_label) FROM samples", "SELECT * FROM samples", "FROM samples WHERE entropy > 0"):
        with pytest.raises(LedgerError, match="cannot be read"):
            sql(run, query)
