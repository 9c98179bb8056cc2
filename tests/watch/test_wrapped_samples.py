"""What a script asks for its own samples, and the files in which it asks for what was recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from watched import NUM_TRAIN, TRAIN, VAL, answers

import litscope.watch as wl
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import decisions
from litscope.rundir import RunDir

RUN = Path("run")


@pytest.fixture(autouse=True)
def loaders(in_tmp: Path) -> Iterator[Any]:
    wl.watch_or_edit({"run_dir": "run"}, flag="hp")
    yield {
        name: wl.watch_or_edit(data, flag="data", loader_name=name, batch_size=10)
        for name, data in (("train_loader", TRAIN), ("val_loader", VAL))
    }
    wl.clear_all()


# ---- tags and discards -------------------------------------------------------------------------------


def test_tags_are_given_taken_and_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert wl.tag_samples(torch.tensor([5, 3, NUM_TRAIN + 2]), " hard ")
    assert wl.tag_samples([3, 4], "odd")
    assert wl.get_samples_by_tag("hard") == [3, 5, NUM_TRAIN + 2]
    assert wl.get_samples_by_tag("hard", origin="val_loader") == [NUM_TRAIN + 2]
    assert wl.get_samples_by_tag("hard", limit=1) == [3]
    assert wl.tag_samples([3], "seen", mode="set")
    assert wl.tag_samples([5], "hard", mode="remove")
    assert [wl.get_samples_by_tag(tag) for tag in ("hard", "odd", "seen", "never")] == [[NUM_TRAIN + 2], [4], [3], []]
    assert wl.tag_samples([], "nothing")
    assert {status for _, status, _ in answers(RUN)} == {"applied"}


def test_a_tag_may_have_one_of_several_values() -> None:
    assert wl.register_categorical_tag("weather", ["rain", "sun"]) == ["rain", "sun"]
    assert wl.set_categorical_tag([0, 1], "weather", "rain")
    assert wl.set_categorical_tag([1], "weather", "fog")
    assert wl.register_categorical_tag("weather", []) == ["rain", "sun", "fog"]
    assert wl.set_categorical_tag([0], "weather", None)
    assert decisions(RunDir(RUN)).tags == {"weather=fog": {1}}


def test_discards_hold_from_the_next_batch_and_are_taken_back(loaders: Any) -> None:
    batches = loaders["train_loader"]
    next(batches)
    assert wl.discard_samples(range(50))
    assert wl.get_discarded_samples() == list(range(50))
    assert {int(i) for _, ids, _ in batches for i in ids} == set(range(50, 100))
    assert wl.discard_samples([0, 1], discarded=False)
    assert wl.get_discarded_samples(origin="train_loader", limit=2) == [2, 3]
    assert {int(i) for _, ids, _ in batches for i in ids} == {0, 1, *range(50, 100)}


def test_a_request_that_the_run_refuses_returns_false(capsys: pytest.CaptureFixture[str]) -> None:
    assert not wl.discard_samples(range(NUM_TRAIN))
    assert "warning: discard: That would leave 0 samples of train" in capsys.readouterr().err
    assert wl.get_discarded_samples() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wl.tag_samples([0], "a", mode="ad"), "add, remove or set"),
        (lambda: wl.tag_samples([1_000_000], "a"), "the run knows 130 samples"),
        (lambda: wl.discard_samples(["img_7"]), "must be whole numbers"),
        (lambda: wl.get_samples_by_tag("a", origin="train_loadr"), "Did you mean 'train_loader'"),
        (lambda: (wl.keep_serving(), wl.tag_samples([0], "a")), "No run with samples is under watch"),
    ],
)
def test_misuse_says_what_is_allowed(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


# ---- files -------------------------------------------------------------------------------------------


@pytest.fixture
def recorded() -> None:
    """Two steps of a batch of two, one evaluation, and a number of a step."""
    loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="CE")
    logits, target = torch.tensor([[1.0, 0, 0], [0, 0, 9.0]]), torch.tensor([0, 1])
    for step in (1, 2):
        with wl.guard_training_context:
            loss_of(logits * step, target, batch_ids=[0, 1], step=step)
    with wl.guard_testing_context:
        wl.save_signals({"right": [1.0]}, [NUM_TRAIN], logits[:1], target[:1])
    wl.save_model_signals({"norm": 0.5})
    wl.tag_samples([0], "hard")
    wl.set_categorical_tag([1], "weather", "rain")
    wl.discard_samples([1])


@pytest.mark.usefixtures("recorded")
def test_history_as_tuples() -> None:
    name = wl.get_current_experiment_hash()
    assert name == "run"
    found = wl.query_signal_history("CE", sample_ids=[1])
    assert [visit[:2] + visit[3:] for visit in found] == [(1, 1, name), (1, 2, name)]
    assert found[1][2] > found[0][2]
    assert [visit[:2] for visit in wl.query_sample_history("0")] == [("CE", 1), ("CE", 2)]
    assert wl.query_signal_history("CE", exp_hash="another") == wl.query_sample_history(0, "right") == []


@pytest.mark.usefixtures("recorded")
def test_history_as_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(wl.write_history(verbose=True))
    assert path == (RUN / "exports" / "history.parquet").absolute()
    assert str(Path("run/exports/history.parquet")) in capsys.readouterr().err
    found = pq.read_table(path).to_pylist()
    points = [(row["graph_name"], row["step"]) for row in found if row["type"] == "global"]
    assert set(points) >= {("CE", 1), ("CE", 2), ("right", 2), ("norm", 2)}
    assert [row["sample_id"] for row in found if row["type"] == "sample"] == [0, 1, 0, 1, NUM_TRAIN]
    of_one = wl.write_history("one.csv", type_of_history="sample", graph_name="CE", sample_id=1)
    with Path(of_one).open(newline="") as file:
        assert [(row["graph_name"], row["step"], row["sample_id"]) for row in csv.DictReader(file)] == [
            ("CE", "1", "1"),
            ("CE", "2", "1"),
        ]
    columns = json.loads(Path(wl.write_history("h.json", graph_name=["norm"])).read_text())
    assert columns["global"]["metric_value"] == {"0": 0.5}
    assert columns["sample"]["step"] == {}
    lines = json.loads(Path(wl.write_history("folder", format="json", orient="records")).read_text())
    assert {row["graph_name"] for row in lines["sample"]} == {"CE", "right"}
    assert Path("folder/history.json").exists()


@pytest.mark.usefixtures("recorded")
def test_all_samples_as_a_file(loaders: Any) -> None:
    found = pq.read_table(wl.write_dataframe()).to_pylist()
    assert len(found) == 130
    first, second = found[:2]
    assert {name: first[name] for name in ("sample_id", "annotation_id", "origin", "target", "prediction")} == {
        "sample_id": 0,
        "annotation_id": 0,
        "origin": "train_loader",
        "target": 0,
        "prediction": 0,
    }
    assert [first["tag:hard"], second["tag:hard"], second["tag:weather"]] == [True, None, "rain"]
    assert [first["discarded"], second["discarded"]] == [False, True]
    assert found[NUM_TRAIN]["signals//right"] == 1
    assert first["signals//CE"] == pytest.approx(wl.query_signal_history("CE", sample_ids=[0])[-1][2])
    some = json.loads(Path(wl.write_dataframe("d.json", columns=["tags", "discarded"], sample_id=[1])).read_text())
    assert some == {
        "sample_id": {"0": 1},
        "annotation_id": {"0": 0},
        "discarded": {"0": True},
        "tag:hard": {"0": None},
        "tag:weather": {"0": "rain"},
    }
    wl.keep_serving()
    assert pq.read_table(wl.write_dataframe("after.parquet", columns="signals")).num_rows == 130, "of the run before"


@pytest.mark.usefixtures("recorded")
def test_files_of_instances_and_of_nothing_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert pq.read_table(wl.write_history("i.parquet", type_of_history="instances")).num_rows == 0
    assert pq.read_table(wl.write_dataframe("j.parquet", instance_id=[1, 2], columns="tag:none")).num_rows == 0
    said = capsys.readouterr().err
    assert said.count("out of scope") == 2
    assert "Nobody has the tag 'none'" in said
    assert "i.parquet has no rows" in said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wl.write_history(format="xml"), "parquet, csv, json"),
        (lambda: wl.write_history(type_of_history="some"), "all, global, sample"),
        (lambda: wl.write_dataframe(orient="split"), "columns, records"),
        (lambda: wl.write_dataframe(columns="discard"), "Did you mean 'discarded'"),
    ],
)
def test_misuse_of_files_says_what_is_allowed(call: Any, message: str, recorded: None) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_nothing_is_written_before_anything_is_recorded() -> None:
    assert wl.get_current_experiment_hash() is None
    with pytest.raises(ConfigError, match="Nothing has been recorded yet"):
        wl.write_dataframe()
