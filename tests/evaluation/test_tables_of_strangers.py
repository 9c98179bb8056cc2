"""Runs on tables and lists as strangers bring them, from training to prediction; and runs of earlier versions."""

from __future__ import annotations

import numpy as np
import pyarrow.csv
import pytest
import yaml
from PIL import Image
from small_runs import IRIS, small_fit

from litscope.curation.export import Wanted, export
from litscope.data.manifest import Manifest
from litscope.data.sources import columns
from litscope.errors import ConfigError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.rundir import RunDir
from litscope.training.fit import fit


def _table(path, header, row, count=120):
    """A table with the noisy feature x; class b where it is above 0."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        label = "ab"[i * 2 // count]
        rows.append(row.format(i=i, x=rng.normal(1 if label == "b" else -1), label=label))
    path.write_text("\n".join([header, *rows]))
    return path


def _fit(run, data, **flags):
    return small_fit(run, {**IRIS, "epochs": 8}, dataset=str(data), **flags)


@pytest.mark.slow
def test_a_sorted_file_with_its_index_is_not_known_by_the_index(tmp_path):
    data = _table(tmp_path / "t.csv", "Unnamed: 0,x,label", "{i},{x},{label}")
    _fit(tmp_path / "run", data)
    assert evaluate(tmp_path / "run", "val")["metrics"]["val/accuracy"] < 1
    (tmp_path / "n.csv").write_text("x\n-3\n3\n")
    assert predict(tmp_path / "run", [tmp_path / "n.csv"]).table["prediction"].to_pylist() == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1, 10**9])
def test_seconds_and_nanoseconds_since_1970_are_learned(tmp_path, unit):
    rows = [f"{(1_700_000_000 + i) * unit},{'ab'[i // 30]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["t,label", *rows]))
    _fit(tmp_path / "run", tmp_path / "t.csv", epochs=80, lr=0.02)
    found = predict(tmp_path / "run", [tmp_path / "t.csv"]).table["prediction"].to_pylist()
    assert sum(label == "ab"[i // 30] for i, label in enumerate(found)) >= 58


def _without_index_rule(monkeypatch):
    monkeypatch.setattr(columns, "index_columns", lambda table, of_pandas: [])


@pytest.mark.slow
def test_a_run_that_was_trained_with_an_index_predicts_evaluates_and_goes_on(tmp_path, monkeypatch):
    data = _table(tmp_path / "t.csv", "Unnamed: 0,x,label", "{i},{x},{label}")
    with monkeypatch.context() as earlier:
        _without_index_rule(earlier)
        _fit(tmp_path / "run", data, epochs=2)
        wanted = evaluate(tmp_path / "run", "train")
        probabilities = predict(tmp_path / "run", [data]).table
    assert evaluate(tmp_path / "run", "train") == wanted
    assert predict(tmp_path / "run", [data]).table.equals(probabilities)
    fit(resume=str(tmp_path / "run"), epochs=3, accelerator="cpu", progress=False, logger=["none"])
    names = Manifest.read(RunDir(tmp_path / "run").manifest).encoding["feature_names"]
    assert names == ["Unnamed: 0", "x"]


@pytest.mark.slow
def test_a_run_whose_groups_were_not_asked_for_evaluates_exports_and_goes_on(tmp_path):
    data = _table(tmp_path / "t.csv", "x,group,label", "{x},person {i},{label}")
    run = RunDir(tmp_path / "run")
    _fit(run.path, data, epochs=2, group_column="group")
    recipe = yaml.safe_load(run.recipe.read_text())
    recipe["data"]["group_column"] = None  # as earlier versions left it
    run.recipe.write_text(yaml.safe_dump(recipe))
    assert evaluate(run.path, "val")["num_samples"] == 12
    exported = export(Wanted(run, tmp_path / "out.csv"), "csv")
    assert any("--group-column group" in note for note in exported.notes)
    assert pyarrow.csv.read_csv(tmp_path / "out.csv").column_names == ["x", "label", "split", "group"]
    fit(resume=str(run.path), epochs=3, accelerator="cpu", progress=False, logger=["none"])


@pytest.mark.slow
def test_an_exported_table_has_plain_numbers(tmp_path):
    rows = [f"{i},5;{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x;label", *rows]))
    _fit(tmp_path / "run", tmp_path / "t.csv", epochs=1)
    export(Wanted(RunDir(tmp_path / "run"), tmp_path / "out.csv"), "csv")
    assert pyarrow.csv.read_csv(tmp_path / "out.csv")["x"].to_pylist()[:3] == [0.5, 1.5, 2.5]


@pytest.mark.slow
def test_a_list_with_a_column_and_a_root_of_its_own(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "lists").mkdir()
    for i in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)).save(tmp_path / "away" / f"scan{i}.png")
    rows = "\n".join(f"scan{i},{'ab'[i // 6]}" for i in range(12))
    (tmp_path / "lists" / "l.csv").write_text(f"the scan,label\n{rows}")
    settings = {**IRIS, "arch": "convnet", "epochs": 1, "batch_size": 4}
    root = str(tmp_path / "away")
    small_fit(tmp_path / "run", settings, dataset=str(tmp_path / "lists" / "l.csv"), image_column="the scan",
              image_root=root, val_split=0.25, cache_dir=str(tmp_path / "cache"))  # fmt: skip
    counts = evaluate(tmp_path / "run", "all")
    assert counts["num_samples"] == 12
    moved = tmp_path / "moved.csv"
    moved.write_text((tmp_path / "lists" / "l.csv").read_text())
    assert evaluate(tmp_path / "run", "all", dataset=str(moved), image_root=root)["metrics"] == counts["metrics"]
    assert predict(tmp_path / "run", [moved], image_root=root).table.num_rows == 12
    moved.write_text("picture taken\nscan3.png\n")
    found = predict(tmp_path / "run", [moved], image_column="picture taken", image_root=root)
    assert found.table.num_rows == 1
    with pytest.raises(ConfigError, match="--image-column x is for PATH"):
        predict(tmp_path / "run", split="train", image_column="x")
