"""Evaluating a run again gives the numbers that the run gave, and says clearly why it cannot."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small_runs import IRIS, small_fit

from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.evaluate import evaluate
from litscope.rundir import RunDir


def write_images(folder, counts, size=(20, 16), seed=0):
    """`<class>/N.png` files of noise around a brightness of the class's own."""
    random = np.random.default_rng(seed)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = size[0] + i % 3, size[1]
            pixels = random.normal(60 + 60 * number, 40, (height, width, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


IMAGES = {"arch": "convnet", "epochs": 2, "batch_size": 8, "accelerator": "cpu", "logger": ["none"], "progress": False}


@pytest.fixture(scope="module")
def image_run(tmp_path_factory):
    """A finished run on image files with all three splits, and its data."""
    base = tmp_path_factory.mktemp("images")
    for split, count in (("train", 24), ("val", 9), ("test", 11)):
        write_images(base / "data" / split, {"dark": count, "light": count, "middle": count}, seed=count)
    small_fit(base / "run", IMAGES, dataset=str(base / "data"), cache_dir=str(base / "cache"))
    return base / "run", base / "data"


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("iris") / "run"
    small_fit(run, IRIS, test_split=0.2)
    return run


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_numbers_are_those_of_the_run(image_run, split):
    run = image_run[0]
    kept = json.loads(RunDir(run).summary.read_text())["metrics"]["best"]
    found = evaluate(run, split)
    then = {name: value for name, value in kept.items() if name.startswith(f"{split}/")}
    assert len(then) >= 7
    assert found["metrics"] == then
    assert found["num_samples"] == {"val": 27, "test": 33}[split]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"num_workers": -1}])
def test_sizes_that_cannot_be_are_refused(iris_run, wrong):
    with pytest.raises(ConfigError, match="or more"):
        evaluate(iris_run, **wrong)


def test_tables_too(iris_run):
    kept = json.loads(RunDir(iris_run).summary.read_text())["metrics"]["best"]
    assert evaluate(iris_run)["metrics"] == {k: v for k, v in kept.items() if k.startswith("test/")}


def test_other_batch_sizes_and_workers_change_the_last_digits_only(image_run):
    run = image_run[0]
    one = evaluate(run)["metrics"]
    other = evaluate(run, batch_size=5, num_workers=0)["metrics"]
    assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_the_confusion_matrix_counts_what_the_metrics_say(image_run):
    found = evaluate(image_run[0], "train")
    matrix = np.array(found["confusion_matrix"])
    assert matrix.sum(1).tolist() == [24, 24, 24]
    assert found["classes"] == ["dark", "light", "middle"]
    assert found["metrics"]["train/accuracy"] == pytest.approx(np.trace(matrix) / 72)


@pytest.mark.slow
def test_all_samples(image_run):
    found = evaluate(image_run[0], "all")
    parts = [evaluate(image_run[0], split) for split in ("train", "val", "test")]
    assert found["num_samples"] == 132
    assert found["confusion_matrix"] == sum(np.array(part["confusion_matrix"]) for part in parts).tolist()


@pytest.mark.slow
def test_other_checkpoints(image_run):
    run = RunDir(image_run[0])
    best = evaluate(run.path)
    assert best["checkpoint"] != evaluate(run.path, checkpoint="last")["checkpoint"]
    assert evaluate(run.path, checkpoint=best["checkpoint"])["metrics"] == best["metrics"]
    last = evaluate(run.path, "val", checkpoint="last")["metrics"]
    rows = [json.loads(line) for line in run.epoch_metrics.read_text().splitlines()]
    assert last["val/loss"] == pytest.approx(rows[-1]["val/loss"], abs=1e-6)


def test_nothing_is_recorded(image_run):
    def state():
        return {str(p): p.stat().st_mtime_ns for p in image_run[0].rglob("*") if p.is_file()}

    before = state()
    evaluate(image_run[0])
    assert state() == before


def test_data_that_moved(image_run, tmp_path):
    run, data = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(image_run[0], run)
    shutil.copytree(image_run[1], data)
    recipe = RunDir(run).recipe
    recipe.write_text(recipe.read_text().replace(str(image_run[1]), str(tmp_path / "gone")))
    with pytest.raises(DataError, match=r"gone.*--dataset PATH"):
        evaluate(run)
    assert evaluate(run, dataset=str(data))["metrics"] == evaluate(image_run[0])["metrics"]


@pytest.mark.slow
def test_samples_keep_the_split_that_they_had(tmp_path):
    data = write_images(tmp_path / "data", {"dark": 30, "light": 30})
    run = tmp_path / "run"
    small_fit(run, IMAGES, dataset=str(data), val_split=0.3, epochs=1, cache_dir=str(tmp_path / "cache"))
    before = evaluate(run, "val")
    for i in range(30, 50):
        shutil.copy(data / "dark" / f"{i - 30}.png", data / "dark" / f"a{i}.png")
    assert evaluate(run, "val")["confusion_matrix"] == before["confusion_matrix"]


def test_another_data_set_keeps_its_own_splits_and_may_lack_a_class(image_run, tmp_path, capsys):
    other = write_images(tmp_path / "new" / "test", {"dark": 6, "middle": 6}, seed=3).parent
    write_images(tmp_path / "new" / "train", {"dark": 1, "middle": 1}, seed=4)
    for path in other.rglob("*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    found = evaluate(image_run[0], dataset=str(other))
    assert [sum(row) for row in found["confusion_matrix"]] == [6, 0, 6]
    assert "another data set" in capsys.readouterr().err


def test_an_unknown_class_is_an_error(image_run, tmp_path):
    other = write_images(tmp_path / "new", {"dark": 20, "green": 20})
    with pytest.raises(DataError, match=r"'green', which the run does not know.*dark, light, middle"):
        evaluate(image_run[0], dataset=str(other))


def test_tables_are_encoded_as_in_training(tmp_path):
    random = np.random.default_rng(0)

    def write(path, levels, count):
        rows = [f"{random.normal():.3f},{levels[i % len(levels)]},{'ab'[i % 2]}" for i in range(count)]
        path.write_text("x,colour,label\n" + "\n".join(rows) + "\n")
        return path

    run = tmp_path / "run"
    small_fit(run, IRIS, dataset=str(write(tmp_path / "one.csv", ["red", "green", "blue"], 90)), epochs=1)
    other = write(tmp_path / "two.csv", ["red", "pink"], 60)  # another one-hot encoding, were it learnt from here
    assert evaluate(run, "all", dataset=str(other))["num_samples"] == 60


def test_a_table_is_no_image_folder(image_run):
    with pytest.raises(DataError, match="kind"):
        evaluate(image_run[0], dataset="iris")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "tset"}, DataError, "Did you mean 'test'"),
        ({"checkpoint": "beast"}, RunError, "Did you mean 'best'"),
        ({"checkpoint": "nowhere/a.ckpt"}, RunError, "nowhere/a.ckpt"),
        ({"accelerator": "gpus"}, ConfigError, "Did you mean"),
        ({"precision": "17"}, ConfigError, "--precision 17"),
    ],
)
def test_mistakes_are_explained(iris_run, arguments, error, words):
    with pytest.raises(error) as caught:
        evaluate(iris_run, **arguments)
    assert words in str(caught.value)


def test_without_a_test_split_validation_is_measured_and_a_line_says_so(tmp_path, capsys):
    small_fit(tmp_path / "run", IRIS)
    with pytest.raises(DataError, match=r"--split test.*train 135, val 15, test 0"):
        evaluate(tmp_path / "run", "test")
    capsys.readouterr()
    found = evaluate(tmp_path / "run")
    assert (found["split"], found["num_samples"]) == ("val", 15)
    assert found["metrics"] == evaluate(tmp_path / "run", "val")["metrics"]
    assert "has no test split: this is its validation split" in capsys.readouterr().err


def test_a_run_without_checkpoints_is_an_error(image_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(image_run[0], run)
    for path in RunDir(run).checkpoints.glob("*.ckpt"):
        path.unlink()
    for which in ("best", "last"):
        with pytest.raises(RunError, match=f"no {which} checkpoint"):
            evaluate(run, checkpoint=which)
    with pytest.raises(RunError, match="does not exist"):
        evaluate(tmp_path / "nothing")


@pytest.mark.slow
def test_precision_is_that_of_the_run(tmp_path):
    run = tmp_path / "run"
    small_fit(run, IRIS, precision="bf16-mixed", test_split=0.2)
    kept = json.loads(RunDir(run).summary.read_text())["metrics"]["best"]["test/loss"]
    assert evaluate(run)["metrics"]["test/loss"] == kept
    assert evaluate(run, precision="32")["metrics"]["test/loss"] != kept
