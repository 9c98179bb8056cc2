"""`--channels` of `evaluate` and `predict`: arrays whose shape does not tell which axis is the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from litscope.errors import ConfigError, DataError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.training.fit import fit

QUICK = {"accelerator": "cpu", "logger": ["none"], "progress": False, "epochs": 1, "arch": "convnet"}


def images(seed: int, count: int = 40) -> np.ndarray:
    """(N, 6, 6, 6) uint8, channels last: no axis looks like channels."""
    return np.random.default_rng(seed).integers(0, 255, (count, 6, 6, 6), np.uint8)


def write(path: Path, x: np.ndarray) -> Path:
    np.savez(path, X=x, y=np.arange(len(x)) % 2)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    fit(str(write(folder / "data.npz", images(0))), run_dir=str(folder / "run"), channels="last", **QUICK)
    return folder / "run"


@pytest.mark.slow
@pytest.mark.flag("--channels")
def test_another_file_may_have_them_elsewhere(run: Path, tmp_path: Path) -> None:
    x = images(1)
    last, first = write(tmp_path / "last.npz", x), write(tmp_path / "first.npz", x.transpose(0, 3, 1, 2))
    as_trained = evaluate(run, dataset=str(last))
    assert as_trained["num_samples"] == 40
    assert evaluate(run, dataset=str(first), channels="first")["metrics"] == as_trained["metrics"]
    assert evaluate(run, dataset=str(first))["metrics"] != as_trained["metrics"]
    one, two = predict(run, [last]).table, predict(run, [first], channels="first").table
    assert one.drop_columns("key").equals(two.drop_columns("key"))
    three = predict(run, split="all", dataset=str(first), channels="first").table
    assert three["p_max"].equals(one["p_max"])


@pytest.mark.slow
def test_npy_files_too(run: Path, tmp_path: Path) -> None:
    x = images(2, 8)
    for i, image in enumerate(x):
        for name, array in (("last", image), ("first", image.transpose(2, 0, 1))):
            folder = tmp_path / name / str(i % 2)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{i}.npy", array)
    found = [
        evaluate(run, dataset=str(tmp_path / name), channels=axis)["metrics"]
        for name, axis in (("last", None), ("last", "last"), ("first", "first"))
    ]
    assert found[0] == found[1] == found[2]
    one, two = predict(run, [tmp_path / "last"]).table, predict(run, [tmp_path / "first"], channels="first").table
    assert one["p_max"].equals(two["p_max"])


def test_an_axis_that_is_not_there_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--channels first is for the arrays of \.npz and \.npy files; digits has"):
        evaluate(run, dataset="digits", channels="first")
    np.savez(tmp_path / "gray.npz", X=images(0)[..., 0], y=np.arange(40) % 2)
    with pytest.raises(ConfigError, match="has no axis of channels"):
        evaluate(run, dataset=str(tmp_path / "gray.npz"), channels="first")
    with pytest.raises((ConfigError, DataError)):
        predict(run, [__file__], channels="first")


def test_a_named_data_set_has_no_such_axis(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="digits has none"):
        fit("digits", run_dir=str(tmp_path / "run"), channels="last", **QUICK)
