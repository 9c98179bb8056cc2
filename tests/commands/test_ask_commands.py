"""The commands that ask a run: what they print for people and for programs, and what they refuse."""

from __future__ import annotations

import csv
import datetime
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from asked_runs import NUM_EPOCHS, act, asked_run, write_images
from PIL import Image

from litscope.cli import main
from litscope.commands.text import table
from litscope.console import LONGEST_CURVE, cell, sparkline
from litscope.ledger.compare import compare
from litscope.ledger.encode import csv_lines, json_lines
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.opened import open_run
from litscope.rundir import RunDir, append_line, write_json, write_text


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "run", dataset=write_images(tmp_path / "images"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that succeeds; its standard output, as JSON where that was asked for."""

    def do(*words: object) -> Any:
        assert main([str(word) for word in words]) == 0
        out = capsys.readouterr().out
        return json.loads(out)["result"] if "--json" in words else out

    return do


def test_sparklines() -> None:
    assert sparkline([0.0, 0.5, None, float("nan"), 1.0]) == "▁▅··█"
    assert sparkline([]) == ""
    long = sparkline([i / 99 for i in range(100)])
    assert (len(long), long[0], long[-1]) == (LONGEST_CURVE, "▁", "█")
    assert list(long) == sorted(long)


def test_tables() -> None:
    rows = [{"name": "a", "n": 1, "x": 0.123456}, {"name": "long", "n": 200, "x": None}]
    assert table(rows, {"name": "name", "n": "n", "x": "x"}) == [
        "name    n       x",
        "a       1  0.1235",
        "long  200",
    ]
    assert table([], {"name": "name"}) == ["name"]
    assert cell([True, "a"]) == "true, a"


@pytest.mark.slow
def test_long_tables_are_written_in_blocks() -> None:
    found = pa.table({"a": ['x,"y', *("z" for _ in range(20_000))], "b": [[1, 2]] * 20_001})
    blocks = list(csv_lines(found))
    assert len(blocks) == 4
    assert "".join(blocks).splitlines()[:3] == ["a,b", '"x,""y",1;2', "z,1;2"]
    assert json.loads("".join(json_lines(found))) == found.to_pylist()
    assert "".join(csv_lines(found[:0])) == "a,b\n"
    assert json.loads("".join(json_lines(found[:0]))) == []


def test_json_has_no_values_that_it_does_not_know() -> None:
    day = datetime.date(2026, 1, 2)
    found = pa.table(
        {"x": [float("nan"), 1.5], "d": [Decimal("0.5"), None], "t": [day, day], "l": [[float("inf")], []]}
    )
    assert json.loads("".join(json_lines(found))) == [
        {"x": None, "d": 0.5, "t": "2026-01-02", "l": [None]},
        {"x": 1.5, "d": None, "t": "2026-01-02", "l": []},
    ]


def test_suspects_for_people(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suspects", str(run.path), "-n", "3"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "key", "label", "believed", "suspicion", "(rank)", "p(label)", "by", "epoch"]
    assert lines[1].split()[:4] == ["1", "train/bee/07.png", "bee", "wasp"]
    assert [line.split()[-1] for line in lines[1:4]] == ["▁▁▁▁", "▁▁▁▁", "▃▃▇▇"]
    assert lines[4] == "... and 9 less suspicious"
    assert "recall is not known: train with --canaries" in err
    assert "precision is not known" in err
    assert "memorisation clock: " in err
    assert "suspicion is a rank in the split" in err
    assert lines[1].split()[5] == "0.02", "p(label) beside it"
    assert f"next: litscope sample {run.path} train/bee/07.png\n" in err
    assert f"      litscope relabel {run.path} --to believed --key train/bee/07.png\n" in err
    assert "warning" not in err
    with Image.open(run.figures / "suspects-train.png") as sheet:
        assert sheet.width > 100


def test_the_order_of_a_network_that_still_learns_comes_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = asked_run(tmp_path / "young", num_epochs=1)
    assert main(["suspects", str(run.path), "--no-sheet"]) == 0
    err = capsys.readouterr().err
    assert "warning: the network is still learning" in err
    assert "next: litscope sample" in err
    assert "litscope relabel" not in err
    assert main(["suspects", str(run.path), "--json"]) == 0
    assert "still learning" in json.loads(capsys.readouterr().out)["result"]["warning"]
    open_run(run.path).suspects()
    assert "warning: the network is still learning" in capsys.readouterr().err


def test_what_a_person_is_shown_says_that_suspicion_is_a_rank(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["scores", str(run.path)], ["sample", str(run.path), "7"]):
        assert main(line) == 0
        out, err = capsys.readouterr()
        assert "p_label" in out
        assert "suspicion is a rank in the split" in err
        assert main([*line, "--json"]) == 0
        assert capsys.readouterr().err == "", "programs know"


def test_the_curve_of_a_long_run_is_thinned_out_for_people_only(tmp_path: Path, call: Any) -> None:
    run = asked_run(tmp_path / "long", num_epochs=50)
    curve = call("suspects", run.path, "-n", 1, "--no-sheet").splitlines()[1].split()[-1]
    assert curve == "▁" * LONGEST_CURVE
    assert len(call("suspects", run.path, "-n", 1, "--json")["suspects"][0]["trajectory"]) == 50


def test_suspects_for_programs(run: RunDir, tmp_path: Path, call: Any) -> None:
    told = call("suspects", run.path, "--json")
    everyone = told["suspects"]
    assert told["clock"] == {
        "changing": [None, 0.0, pytest.approx(1 / 12), 0.0],
        "t_star": None,
        "window": [1, 3],
        "num_epochs": 4,
        "settled": None,
        "is_learning": False,
    }
    assert told["warning"] is None
    assert "no probability" in told["meaning"]["suspicion"]
    assert told["trust"]["precision"] is None
    assert told["trust"]["recall"]["num_canaries"] == 0
    assert [row["sample_id"] for row in everyone[:2]] == [7, 2]
    assert len(everyone) == 12
    assert {"sample_id", "key", "label", "believed_label", "suspicion", "p_label"} <= set(everyone[0])
    assert "trajectory" not in everyone[0]
    (first,) = call("suspects", run.path, "--json", "-n", 1, "--sheet", tmp_path / "asked.png")["suspects"]
    assert (tmp_path / "asked.png").exists()
    assert first["trajectory"] == pytest.approx([0.02] * NUM_EPOCHS)
    assert first == {**everyone[0], "trajectory": first["trajectory"]}
    assert call("suspects", run.path, "--csv", tmp_path / "out.csv", "--split", "val") == ""
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert not (run.figures / "suspects-train.png").exists()


def test_suspects_that_were_decided_on(run: RunDir, tmp_path: Path, call: Any) -> None:
    act(run, "discard", [7])
    assert "07.png" not in call("suspects", run.path, "--no-sheet")
    shown = call("suspects", run.path, "--all", "--sheet", tmp_path / "here.png")
    assert shown.splitlines()[1].split()[-1] == "discarded"
    assert (tmp_path / "here.png").exists()
    act(run, "tag", list(range(12)), tag="ok")
    assert call("suspects", run.path) == "No sample of train is left in the queue.\n"


def test_scores(run: RunDir, tmp_path: Path, call: Any) -> None:
    expected = refresh(run).table.to_pylist()
    found = call("scores", run.path, "--json")
    assert [{name: row[name] for name in expected[0]} for row in found] == expected
    by_aum = call("scores", run.path, "--sort", "aum", "-n", 2, "--json", "--split", "train")
    assert [row["sample_id"] for row in by_aum] == [7, 2]
    assert call("scores", run.path, "--sort=-key", "-n", 1).splitlines()[1].startswith("val/wasp/14.png")
    lines = [line.split() for line in call("scores", run.path, "-n", 15).splitlines()]
    at = (
        lines[0].index("first_learned_epoch") - len(lines[0]) + 1
    )  # "suspicion (rank)" is two words; from the right, where no cell is empty
    stored = [row["first_learned_epoch"] for row in expected]
    assert {0, -1} <= set(stored)
    learned = [line[at] for line, epoch in zip(lines[1:], stored, strict=True) if epoch == 0]
    assert learned == ["1"] * len(learned), "a person counts epochs from 1"
    call("scores", run.path, "--csv", tmp_path / "scores.csv")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 16


def test_a_sample_by_key_by_the_end_of_its_key_and_by_id(run: RunDir, call: Any) -> None:
    act(run, "relabel", [7, 2], label=["wasp", "bee"], why="looked twice")
    found = call("sample", run.path, "train/bee/07.png", "--json")
    assert found["sample_id"] == 7
    assert (found["label_name"], found["current_name"], found["believed_name"]) == ("bee", "wasp", "wasp")
    assert [visit["epoch"] for visit in found["visits"]] == list(range(NUM_EPOCHS))
    assert found["visits"][0]["pred_name"] == "wasp"
    assert [(a["what"], a["label"], a["status"], a["why"]) for a in found["actions"]] == [
        ("relabel", "wasp", "applied", "looked twice")
    ]
    assert call("sample", run.path, "07.png", "--json") == found == call("sample", run.path, "7", "--json")
    shown = call("sample", run.path, "7")
    visits = shown[shown.index("epoch  ") :].splitlines()[: NUM_EPOCHS + 1]
    assert [line.split()[0] for line in visits] == ["epoch", *map(str, range(1, NUM_EPOCHS + 1))]
    assert "▁▁▁▁" in shown
    assert "looked twice" in shown


def test_confusions_name_their_samples(run: RunDir, call: Any) -> None:
    assert call("confusions", run.path) == "Every sample of val is predicted correctly.\n"
    found = call("confusions", run.path, "--split", "train", "--json")
    assert [(row["label_name"], row["pred_name"], row["num_samples"], row["keys"]) for row in found] == [
        ("bee", "wasp", 1, ["train/bee/07.png"]),
        ("wasp", "ant", 1, ["train/wasp/02.png"]),
    ]
    assert "train/bee/07.png" in call("confusions", run.path, "--split", "train", "-n", 1)


def test_sql_as_table_json_and_csv(run: RunDir, call: Any) -> None:
    query = "select split, count(*) as n, {'a': 1.5} as s from manifest group by split order by split"
    assert call("sql", run.path, query, "--json") == [
        {"split": "train", "n": 12, "s": {"a": 1.5}},
        {"split": "val", "n": 3, "s": {"a": 1.5}},
    ]
    assert (
        call("sql", run.path, "select split, 1 as n from manifest where sample_id < 1", "--csv") == "split,n\ntrain,1\n"
    )
    assert call("sql", run.path, "select max(epoch) as last from metrics").split() == ["last", "3"]
    act(run, "pause")
    assert call("sql", run.path, "select asked_at::date as day from actions", "--json")[0]["day"].startswith("20")


def test_compare_tells_whose_fate_differs(run: RunDir, tmp_path: Path, call: Any) -> None:
    other = asked_run(tmp_path / "other", labels={7: 2, 0: 1})
    write_text(other.recipe, "data:\n  dataset: elsewhere\ntraining:\n  lr: 0.2\nlogging:\n  name: other\n")
    append_line(other.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "val/accuracy": 0.9, "val/ap": 0.5})
    found = compare(run, other)
    assert found["metrics"]["val/accuracy"] == {"first": 0.8, "second": 0.9, "difference": pytest.approx(0.1)}
    assert found["metrics"]["val/ap"] == {"first": None, "second": 0.5, "difference": None}
    assert found["recipe"] == {
        "data.dataset": {"first": str(tmp_path / "images"), "second": "elsewhere"},
        "training.lr": {"first": 0.1, "second": 0.2},
    }
    assert found["num_common"] == 15
    fates = {name: [row["key"] for row in fate["samples"]] for name, fate in found["fates"].items()}
    assert fates == {
        "learned_only_in_first": ["train/ant/00.png"],
        "learned_only_in_second": ["train/bee/07.png"],
        "right_only_in_first": ["train/ant/00.png"],
        "right_only_in_second": ["train/bee/07.png"],
    }
    changes = [abs(row["suspicion_first"] - row["suspicion_second"]) for row in found["suspicion"]]
    assert changes == sorted(changes, reverse=True)
    assert call("compare", run.path, other.path, "--json") == json.loads(json.dumps(found))
    shown = call("compare", run.path, other.path, "-n", 1)
    assert "learned only in second: 1" in shown
    assert "training.lr" in shown


def test_compare_takes_the_metrics_of_the_summary(run: RunDir) -> None:
    write_json(run.summary, {"metrics": {"final": {"val/loss": 1.0}, "best": {"val/loss": 0.5, "test/accuracy": 0.7}}})
    assert set(compare(run, run)["metrics"]) == {"val/loss", "test/accuracy"}
    assert compare(run, run)["suspicion"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suspects", "nowhere"], "nowhere does not exist"),
        (["suspects", "RUN", "-n", "0"], "-n 0: it is 1 or more"),
        (["suspects", "RUN", "--split", "test"], "recorded nothing of split 'test'"),
        (["suspects", "RUN", "--spilt", "val"], "Did you mean '--split'"),
        (["scores", "RUN", "--sort", "aumm"], "Did you mean 'aum'"),
        (["scores", "RUN", "-n", "-1"], "it is 1 or more"),
        (["sample", "RUN", "99"], "'99' is no key of a sample of"),
        (["sample", "RUN", "bee"], "Keys with it: train/bee/01.png, train/bee/04.png, train/bee/07.png, ..."),
        (["confusions", "RUN", "--split", "test"], "holds no rows of split 'test'"),
        (["confusions", "RUN", "-n", "0"], "it is 1 or more"),
        (["sql", "RUN", "drop view samples"], "Only one SELECT"),
        (["sql", "RUN", "select lable from samples"], "Did you mean 'label'"),
        (["sql", "RUN", "select 1", "--json", "--csv"], "one of them"),
        (["compare", "RUN", "nowhere"], "nowhere does not exist"),
        (["compare", "RUN"], "required: RUN"),
        (["compare", "RUN", "RUN", "-n", "0"], "it is 1 or more"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    run: RunDir, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main([str(run.path) if word == "RUN" else word for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" or "--json" in words
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_asking_loads_no_torch(run: RunDir) -> None:
    lines = [
        ["suspects", str(run.path)],
        ["sample", str(run.path), "7"],
        ["compare", str(run.path), str(run.path)],
        ["export", str(run.path), "--to", "csv", "-o", str(run.path / "out.csv")],
    ]
    code = (
        "import sys; from litscope.cli import main\n"
        f"assert [main(words) for words in {lines!r}] == [0] * {len(lines)}\n"
        "assert not {'torch', 'lightning', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
