"""What `evaluate --record` keeps: probabilities, labels and sets, in SQL and `worst`; and whether it is outdated."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asked_runs import asked_run
from places import GOLDEN

from litscope.cli import main
from litscope.curation.worst import worst_samples
from litscope.errors import RunError
from litscope.ledger.journal.actions import request, submit
from litscope.ledger.uncertainties import (
    SCHEMA,
    Recording,
    outdated_lines,
    read_uncertainties,
    write_uncertainties,
)
from litscope.ledger.views import select_ids, sql
from litscope.rundir import RunDir
from litscope.seals import sealed_archive

IDS = np.array([12, 13, 14])
PROBS = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.5, 0.4]])
SETS = np.array([[True, False, False], [True, True, True], [False, False, False]])


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made: RunDir = asked_run(tmp_path / "runs" / "one")
    return made


def put_checkpoint(run: RunDir, content: int) -> Path:
    run.checkpoints.mkdir(exist_ok=True)
    made = io.BytesIO()
    np.savez(made, weights=np.full(3, content))
    with run.best_checkpoint.open("wb") as file, sealed_archive(file) as archive:
        archive.write(made.getvalue())
    return run.best_checkpoint


def record(run: RunDir, ids: np.ndarray = IDS, how: str = "logits as they are") -> None:
    rows, label = np.arange(len(ids)), np.array([0, 1, 2])[: len(ids)]
    pred = PROBS[: len(ids)].argmax(1)
    numbers = {"measured_p_pred": PROBS[rows, pred], "measured_p_label": PROBS[rows, label], "set_size": SETS.sum(1)}
    write_uncertainties(
        run,
        ids,
        {name: values[: len(ids)] for name, values in numbers.items()},
        label=label,
        pred=pred,
        sets=SETS[: len(ids)],
        recording=Recording.of(run, run.best_checkpoint, how),
    )


def test_sql_knows_probabilities_labels_and_sets(run: RunDir) -> None:
    put_checkpoint(run, 1)
    record(run)
    rows = sql(
        run,
        "SELECT sample_id, measured_p_pred, measured_p_label, measured_label_name, measured_pred_name, conformal_set, "
        "measured_by, is_measure_outdated FROM samples WHERE split = 'val' ORDER BY sample_id",
    ).to_pylist()
    assert [row["conformal_set"] for row in rows] == [["ant"], ["ant", "bee", "wasp"], []]
    assert [row["measured_pred_name"] for row in rows] == ["ant", "bee", "bee"]
    assert [row["measured_label_name"] for row in rows] == ["ant", "bee", "wasp"]
    assert [row["measured_p_label"] for row in rows] == pytest.approx([0.7, 0.4, 0.4])
    assert {row["measured_by"] for row in rows} == {"best.ckpt, logits as they are"}
    assert {row["is_measure_outdated"] for row in rows} == {False}
    assert select_ids(run, "list_contains(conformal_set, 'wasp')").tolist() == [13]
    assert select_ids(run, "conformal_set = []").tolist() == [14]
    unseen = sql(run, "SELECT count(*) AS n FROM scores WHERE conformal_set IS NULL AND measured_p_pred IS NULL")
    assert unseen["n"].to_pylist() == [12]


def test_sets_are_kept_as_codes(run: RunDir) -> None:
    record(run)
    found = read_uncertainties(run)
    assert found is not None
    assert found.table.schema.equals(SCHEMA)
    assert found.table["conformal_set"].to_pylist() == [[0], [0, 1, 2], []]


def test_worst_by_probability_begins_with_the_lowest(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    record(run)
    words = ["worst", str(run.path), "--split", "val", "--no-sheet", "--json", "--by"]
    assert main([*words, "measured_p_label"]) == 0
    ids = [row["sample_id"] for row in json.loads(capsys.readouterr().out)["result"]["samples"]]
    assert ids == [13, 14, 12]
    assert main([*words, "measured_p_pred"]) == 0
    ids = [row["sample_id"] for row in json.loads(capsys.readouterr().out)["result"]["samples"]]
    assert ids == [13, 14, 12]


def test_a_later_label_is_told(run: RunDir) -> None:
    record(run)
    assert worst_samples(run.path, split="val", by="measured_p_label", sheet=False).notes == []
    submit(run, request("relabel", sample_id=[14], label="bee"))
    row = sql(run, "SELECT * FROM samples WHERE sample_id = 14").to_pylist()[0]
    assert (row["current_name"], row["measured_label_name"]) == ("bee", "wasp")
    assert row["measured_p_label"] == pytest.approx(0.4), "of the label that it had then"
    (note,) = worst_samples(run.path, split="val", by="measured_p_label", sheet=False).notes
    assert note.startswith("1 sample here was relabelled since")
    assert worst_samples(run.path, split="val", by="measured_p_pred", sheet=False).notes == []


def test_another_checkpoint_of_the_same_name_is_told(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    put_checkpoint(run, 1)
    record(run)
    assert outdated_lines(run, read_uncertainties(run)) == []
    put_checkpoint(run, 2)
    (line,) = outdated_lines(run, read_uncertainties(run))
    assert line.startswith("what --record has kept of 3 of 3 samples is outdated: checkpoints/best.ckpt holds other")
    assert line in worst_samples(run.path, split="val", by="set_size", sheet=False).notes
    assert main(["scores", str(run.path)]) == 0
    assert "is outdated" in capsys.readouterr().err
    assert main(["sql", str(run.path), "SELECT set_size FROM samples"]) == 0
    assert "is outdated" in capsys.readouterr().err
    assert main(["sql", str(run.path), "SELECT key FROM samples"]) == 0
    assert "is outdated" not in capsys.readouterr().err
    record(run, IDS[:1], "logits divided by 2.000")
    rows = sql(run, "SELECT sample_id, measured_by, is_measure_outdated FROM samples WHERE split = 'val' ORDER BY 1")
    assert rows["is_measure_outdated"].to_pylist() == [False, True, True]
    assert rows["measured_by"].to_pylist()[0] == "best.ckpt, logits divided by 2.000"
    record(run)
    found = read_uncertainties(run)
    assert found is not None
    assert len(found.recordings) == 1, "those of which no row is left are forgotten"
    run.best_checkpoint.unlink()
    assert set(sql(run, "SELECT is_measure_outdated FROM scores").to_pydict()["is_measure_outdated"]) == {None}


def test_the_file_of_an_earlier_version_opens_and_goes_on(run: RunDir) -> None:
    shutil.copy(GOLDEN / "uncertainties_v1" / "uncertainties.parquet", run.uncertainties)
    query = "SELECT predictive_entropy, set_size, conformal_set, measured_by, is_measure_outdated FROM samples "
    rows = sql(run, f"{query} WHERE split = 'val' ORDER BY sample_id").to_pylist()
    assert [row["predictive_entropy"] for row in rows] == pytest.approx([0.2, 0.9, 0.4])
    assert [row["set_size"] for row in rows] == [1, 3, 2]
    assert {(row["conformal_set"], row["measured_by"], row["is_measure_outdated"]) for row in rows} == {(None,) * 3}
    assert outdated_lines(run, read_uncertainties(run)) == []
    put_checkpoint(run, 1)
    record(run, IDS[:1])
    rows = sql(run, f"{query} WHERE split = 'val' ORDER BY sample_id").to_pylist()
    assert [row["conformal_set"] for row in rows] == [["ant"], None, None]
    assert [row["set_size"] for row in rows] == [1, 3, 2]


def test_the_file_of_a_later_version_is_refused_by_its_version(run: RunDir) -> None:
    record(run)
    table = pq.read_table(run.uncertainties)
    pq.write_table(
        table.append_column("more", pa.nulls(len(table))).replace_schema_metadata(
            {b"litscope.uncertainties": json.dumps({"version": 3, "recordings": []})}
        ),
        run.uncertainties,
    )
    with pytest.raises(RunError, match="written by a later version"):
        read_uncertainties(run)


def test_samples_that_no_training_has_seen_are_in_sql(run: RunDir) -> None:
    """An ensemble that was joined of other runs has no scores."""
    record(run)
    for part in run.signals.iterdir():
        part.unlink()
    shutil.rmtree(run.scores, ignore_errors=True)
    assert sql(run, "SELECT count(*) AS n FROM scores")["n"].to_pylist() == [0]
    rows = sql(run, "SELECT conformal_set, set_size, mean_loss FROM samples WHERE measured_pred_name IS NOT NULL")
    assert rows["conformal_set"].to_pylist() == [["ant"], ["ant", "bee", "wasp"], []]
    assert rows["mean_loss"].to_pylist() == [None] * 3
    found = worst_samples(run.path, 2, split="val", by="measured_p_label", sheet=False).rows
    assert [(row["sample_id"], row["label_name"], row["pred_name"]) for row in found] == [
        (13, "bee", "bee"),
        (14, "wasp", "bee"),
    ]
    with pytest.raises(RunError):
        worst_samples(run.path, split="train", by="measured_p_label", sheet=False)
