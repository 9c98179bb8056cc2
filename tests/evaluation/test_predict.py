"""Prediction of never-seen images and tables: the same probabilities as in evaluation, and nothing silently lost."""

import json
import re
import shutil

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_iris
from small_runs import IRIS, small_fit
from test_evaluate import IMAGES, write_images

from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    """A finished run on photographs of several sizes, and its data."""
    base = tmp_path_factory.mktemp("photographs")
    for split, count in (("train", 16), ("test", 9)):
        write_images(base / "data" / split, {"dark": count, "light": count}, size=(90, 120), seed=count)
    settings = {**IMAGES, "image_size": 64, "epochs": 1, "dataset": str(base / "data")}
    small_fit(base / "run", settings, cache_dir=str(base / "cache"))
    return base / "run", base / "data"


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("iris") / "run"
    small_fit(run, IRIS, test_split=0.2, epochs=20)
    return run


def columns(table, *names):
    return np.stack([table[name].to_numpy() for name in names], 1)


def test_probabilities_are_those_of_evaluation(image_run):
    run, data = image_run
    found = predict(run, [data / "test"], num_workers=0)
    p = {key.split("/test/")[1]: row for key, row in zip(
        found.table["key"].to_pylist(), columns(found.table, "p_dark", "p_light"), strict=True)}  # fmt: skip
    manifest = Manifest.read(RunDir(run).manifest)
    seen = LedgerReader(RunDir(run)).table(["sample_id", "p_label", "label"], split="test").to_pylist()
    assert len(p) == len(seen) == 18
    for row in seen:
        key = manifest.keys[row["sample_id"]].removeprefix("test/")
        assert p[key][row["label"]] == pytest.approx(row["p_label"], abs=2e-6)


def test_predictions_agree_with_the_confusion_matrix(image_run):
    run, data = image_run
    matrix = evaluate(run)["confusion_matrix"]
    for number, name in enumerate(("dark", "light")):
        found = predict(run, data / "test" / name).table["prediction"].to_pylist()
        assert [found.count(other) for other in ("dark", "light")] == matrix[number]


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 4, "num_workers": 2}, {"batch_size": 100}])
def test_batches_and_workers_change_the_last_digits_only(image_run, how):
    run, data = image_run
    one, other = predict(run, [data / "test"]).table, predict(run, [data / "test"], **how).table
    assert one["key"] == other["key"]
    assert columns(one, "p_dark", "p_light") == pytest.approx(columns(other, "p_dark", "p_light"), abs=1e-5)


def test_one_image_is_shown_as_it_was_among_many(image_run, tmp_path):
    """What is near a file must not decide at which size it is read."""
    run, data = image_run
    among = {row["key"]: row["p_dark"] for row in predict(run, [data / "test"]).table.to_pylist()}
    path = str(data / "test" / "dark" / "3.png")
    assert predict(run, path).table["p_dark"][0].as_py() == pytest.approx(among[path], abs=1e-5)
    tiny = tmp_path / "tiny.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (10, 10, 3), np.uint8)).save(tiny)
    together = predict(run, [path, tiny]).table["p_dark"].to_pylist()
    assert together == pytest.approx([among[path], predict(run, tiny).table["p_dark"][0].as_py()], abs=1e-5)


def test_the_run_folder_alone_is_enough(image_run, tmp_path):
    run, data = image_run
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(data / "test" / "dark", tmp_path / "new")
    recipe = RunDir(tmp_path / "run").recipe
    recipe.write_text(recipe.read_text().replace(str(data), "/nowhere"))
    found = predict(tmp_path / "run", tmp_path / "new").table
    expected = predict(run, data / "test" / "dark").table
    assert found["p_dark"].to_pylist() == expected["p_dark"].to_pylist()


def test_files_that_cannot_be_read_are_left_out_with_a_reason(image_run, tmp_path, capsys):
    run, data = image_run
    good = shutil.copy(data / "test" / "dark" / "0.png", tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    cut = tmp_path / "cut.png"
    cut.write_bytes((data / "test" / "dark" / "1.png").read_bytes()[:2000])
    found = predict(run, tmp_path, batch_size=1)  # a batch with nothing readable in it, too
    assert found.table["key"].to_pylist() == [good] or found.table["key"].to_pylist() == [str(good)]
    assert sorted(key for key, _ in found.unreadable) == [str(cut), str(tmp_path / "empty.png")]
    assert all(reason for _, reason in found.unreadable)
    assert found.to_dict()["num_predicted"] == 1
    assert (
        f"2 samples that cannot be read are left out; the first: {found.unreadable[0][0]} (" in capsys.readouterr().err
    )
    with pytest.raises(DataError, match="Not one of 1 samples can be read"):
        predict(run, cut)


def test_lists_of_images(image_run, tmp_path):
    run, data = image_run
    listed = tmp_path / "new.csv"
    listed.write_text(f"filepath\n{data}/test/light/1.png\n{data}/test/dark/0.png\n")
    found = predict(run, listed).table
    assert [key[-11:] for key in found["key"].to_pylist()] == ["light/1.png", "/dark/0.png"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_output_holds_everything(image_run, tmp_path, suffix):
    run, data = image_run
    found = predict(run, [data / "test"], tmp_path / "out" / f"found{suffix}")
    assert found.output == str(tmp_path / "out" / f"found{suffix}")
    table = (pyarrow.csv.read_csv if suffix == ".csv" else pq.read_table)(found.output)
    assert table.column_names == ["key", "prediction", "p_max", "entropy", "p_dark", "p_light"]
    p = columns(table, "p_dark", "p_light")
    assert p.sum(1) == pytest.approx(np.ones(18), abs=1e-5)
    assert table["p_max"].to_numpy() == pytest.approx(p.max(1))
    assert table["prediction"].to_pylist() == [("dark", "light")[k] for k in p.argmax(1)]
    assert "18 samples" in found.lines()[0]
    assert "predictions" not in found.to_dict()
    assert len(json.dumps(predict(run, [data / "test"]).to_dict()["predictions"])) > 100


def test_tables_are_predicted_by_name_of_column(iris_run, tmp_path):
    iris = load_iris()
    names = Manifest.read(RunDir(iris_run).manifest).encoding["feature_names"]
    order = [2, 0, 3, 1]
    lines = [",".join(names[k] for k in order)] + [",".join(str(row[k]) for k in order) for row in iris.data]
    table = tmp_path / "new.csv"
    table.write_text("\n".join(lines) + "\n")
    found = predict(iris_run, table, batch_size=7).table["prediction"].to_pylist()
    matrix = np.array(evaluate(iris_run, "all")["confusion_matrix"])
    right = np.mean([found[i] == iris.target_names[label] for i, label in enumerate(iris.target)])
    assert right == pytest.approx(np.trace(matrix) / 150)
    assert right > 0.8


def test_unlabelled_rows_of_the_runs_own_data(tmp_path):
    data = write_images(tmp_path / "data", {"dark": 12, "light": 12})
    listed = tmp_path / "samples.csv"
    rows = [
        f"data/{p.parent.name}/{p.name},{p.parent.name if i % 4 else ''}" for i, p in enumerate(data.rglob("*.png"))
    ]
    listed.write_text("filepath,label\n" + "\n".join(rows) + "\n")
    run = tmp_path / "run"
    small_fit(run, IMAGES, dataset=str(listed), epochs=1, cache_dir=str(tmp_path / "cache"))
    found = predict(run, split="unlabelled").table
    assert sorted(found["key"].to_pylist()) == sorted(row.split(",")[0] for row in rows if row.endswith(","))
    assert "label" not in found.column_names


def test_labelled_splits_show_their_labels(iris_run):
    table = predict(iris_run, split="test").table
    hits = np.mean([a == b for a, b in zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True)])
    assert hits == pytest.approx(evaluate(iris_run)["metrics"]["test/accuracy"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ConfigError, "--split unlabelled"),
        ({"paths": ["a.csv"], "split": "test"}, ConfigError, "one of the two"),
        ({"split": "unlabeled"}, ConfigError, "Did you mean 'unlabelled'"),
        ({"split": "unlabelled"}, DataError, "iris has no unlabelled"),
        ({"paths": ["nowhere.csv"]}, DataError, "nowhere.csv does not exist"),
        ({"split": "test", "output": "found.xlsx"}, ConfigError, ".csv or .parquet"),
    ],
)
def test_mistakes_are_explained(iris_run, arguments, error, words):
    with pytest.raises(error) as caught:
        predict(iris_run, **arguments)
    assert words in str(caught.value)


def test_a_class_called_max_keeps_its_column(tmp_path):
    data = write_images(tmp_path / "data", {"max": 10, "min": 10})
    small_fit(tmp_path / "run", IMAGES, dataset=str(data), epochs=1, cache_dir=str(tmp_path / "cache"))
    table = predict(tmp_path / "run", data).table
    assert table.column_names == ["key", "prediction", "p_max", "entropy", "p_max_class", "p_min"]
    assert columns(table, "p_max_class", "p_min").sum(1) == pytest.approx(np.ones(20), abs=1e-5)


def test_the_most_probable_classes_in_place_of_all(iris_run, tmp_path, capsys):
    whole = predict(iris_run, split="test").table
    target = tmp_path / "top.csv"
    assert main(["predict", str(iris_run), "--split", "test", "--top-k", "2", "--output", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["output"] == str(target)
    top = pyarrow.csv.read_csv(target)
    best = ["class_1", "p_1", "class_2", "p_2"]
    assert top.column_names == ["key", "label", "prediction", "p_max", "entropy", *best]
    names = [name.removeprefix("p_") for name in whole.column_names[-3:]]
    p = columns(whole, *(f"p_{name}" for name in names))
    order = np.argsort(-p, 1)
    for rank in (1, 2):
        assert top[f"class_{rank}"].to_pylist() == [names[k] for k in order[:, rank - 1]]
        assert top[f"p_{rank}"].to_numpy() == pytest.approx(np.sort(p, 1)[:, -rank], abs=1e-6)
    assert top["class_1"].to_pylist() == top["prediction"].to_pylist()


def test_more_classes_than_there_are_is_said(iris_run, tmp_path, capsys):
    names = Manifest.read(RunDir(iris_run).manifest).encoding["feature_names"]
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(names) + "\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n")
    assert main(["predict", str(iris_run), str(rows), "--top-k", "9"]) == 0
    shown = capsys.readouterr()
    assert "--top-k 9: the network knows 3 classes" in shown.err
    head, first, _ = shown.out.splitlines()[1:]
    assert head.split() == ["key", "1", "2", "3"]
    assert re.search(r"setosa 0\.\d{4}.*versicolor 0\.\d{4}.*virginica 0\.\d{4}", first)
    assert main(["predict", str(iris_run), str(rows), "--top-k", "0"]) == 2
    assert "--top-k 0: it is 1 or more." in capsys.readouterr().err
