"""`litscope.load`: a network in memory says of paths, arrays and frames what `litscope predict` says of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from PIL import Image
from small_runs import IRIS, small_fit

import litscope
from litscope.errors import DataError, RunError
from litscope.evaluation.model import Model

COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Model:
    run = tmp_path_factory.mktemp("iris") / "run"
    small_fit(run, IRIS, epochs=5)
    return litscope.load(run)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A folder of gray images in two classes, and a model of it."""
    base = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for k, name in enumerate(("dark", "light")):
        (base / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.normal(70 + 100 * k, 30, (12, 12)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(base / "data" / name / f"{i}.png")
    small_fit(
        base / "run",
        {**IRIS, "dataset": str(base / "data"), "arch": "convnet", "batch_size": 8},
        cache_dir=str(base / "cache"),
    )
    return base / "data", litscope.load(base / "run")


def features(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.5, 6, (count, 4)).astype(np.float32)


def test_rows_are_predicted_alike_as_file_array_table_and_frame(iris: Model, tmp_path: Path) -> None:
    x = features(23)
    table = pa.table({name: x[:, k] for k, name in enumerate(COLUMNS)})
    pa_csv.write_csv(table, tmp_path / "new.csv")
    run = Path(repr(iris).split("'")[1]).parents[1]
    wanted = litscope.predict(run, [tmp_path / "new.csv"]).table
    frame = pd.DataFrame({name: x[:, k] for k, name in enumerate(COLUMNS)}).iloc[:, ::-1]  # columns go by name
    for given in (tmp_path / "new.csv", str(tmp_path / "new.csv"), [tmp_path / "new.csv"], x, table, frame):
        found = iris.predict(given)
        assert found.names == wanted["prediction"].to_pylist()
        assert found.probabilities.shape == (23, 3)
        assert found.probabilities.dtype == np.float32
        for k, name in enumerate(iris.classes):
            assert found.probabilities[:, k] == pytest.approx(wanted[f"p_{name}"].to_numpy(), abs=1e-6)
    assert np.array_equal(
        iris.predict(x, batch_size=5).probabilities.argmax(1), iris.predict(x).probabilities.argmax(1)
    )
    found = iris.predict(x)
    assert repr(found).startswith("Predicted(23 samples: ")
    assert len(repr(found)) < 100
    assert repr(litscope.predict(run, [tmp_path / "new.csv"])) == repr(found).replace("Predicted", "Predictions")
    best = found.top(2)
    assert [first[0] for first, _ in best] == found.names
    assert all(second[1] == np.sort(row)[-2] for (_, second), row in zip(best, found.probabilities, strict=True))
    assert len(found.top(99)[0]) == 3
    with pytest.raises(ValueError, match="k is 0"):
        found.top(0)


def test_images_are_predicted_alike_as_files_and_arrays(photographs: tuple[Path, Model]) -> None:
    folder, model = photographs
    assert model.classes == ["dark", "light"]
    files = sorted(folder.rglob("*.png"))
    by_file = model.predict(files)
    assert by_file.keys == [str(file) for file in files]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    for x in (pixels, pixels[..., None], pixels[:, None]):
        found = model.predict(x)
        assert np.array_equal(found.probabilities, by_file.probabilities)
        assert found.names == by_file.names
        assert found.keys[3] == "the array#3"
    right = np.mean([Path(key).parent.name == name for key, name in zip(by_file.keys, by_file.names, strict=True)])
    assert right > 0.9


def test_the_same_twice_for_nothing_is_left_in_training_mode(photographs: tuple[Path, Model]) -> None:
    folder, model = photographs
    one, two = (model.predict(folder).probabilities for _ in range(2))
    assert np.array_equal(one, two)
    assert one.sum(1) == pytest.approx(np.ones(len(one)), abs=1e-6)


def test_a_broken_file_is_named_and_the_others_predicted(photographs: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = photographs
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = next(folder.rglob("*.png"))
    found = model.predict([tmp_path / "broken.png", good])
    assert found.keys == [str(good)]
    assert [key for key, _ in found.unreadable] == [str(tmp_path / "broken.png")]


def test_what_does_not_fit_is_refused_with_what_the_model_knows(
    iris: Model, photographs: tuple[Path, Model], capsys: pytest.CaptureFixture[str]
) -> None:
    model = photographs[1]
    for asked, x, words in (
        (iris, features(3)[:, :2], "trained on 4 columns"),
        (iris, pa.table({"a": [1.0]}), "sepal length"),
        (iris, np.zeros((0, 4), np.float32), "no rows"),
        (iris, 3, "not int"),
        (iris, [features(2)], "not list"),
        (model, np.zeros((2, 5, 5, 3), np.uint8), "trained on 1 of uint8"),
        (model, np.zeros((5, 5), np.uint8), "shape"),
        (model, pa.table({"a": [1.0]}), "trained on images"),
    ):
        with pytest.raises(DataError, match=words):
            asked.predict(x)
    text = pa.table({name: ["1", "2", "much"] for name in COLUMNS})
    with pytest.raises(DataError, match="much"):
        iris.predict(text)


def test_only_a_run_can_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        litscope.load(tmp_path / "nowhere")
