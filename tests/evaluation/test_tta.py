"""`--tta`: a test image is judged by several views of it, in the run's test, `evaluate` and `predict` alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import rows, small_fit

from litscope.errors import ConfigError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.models.classifier import Classifier
from litscope.models.tta import views
from litscope.training.fit import fit

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flip", 2), ("shift", 6)])
def test_weights_are_those_of_a_mean(kind: str, count: int) -> None:
    found = views(X, kind)  # type: ignore[arg-type]
    assert len(found) == count
    assert sum(weight for weight, _ in found) == pytest.approx(1)
    assert all(view.shape == X.shape for _, view in found)
    assert torch.equal(found[0][1], X)


def test_views_by_hand() -> None:
    """A pixel at (3, 2) of 8 x 8 moves by one to the lower right and to the upper left, and is mirrored."""
    x = torch.zeros(1, 1, 8, 8)
    x[..., 3, 2] = 1
    places = [tuple(view[0, 0].nonzero()[0].tolist()) for _, view in views(x, "shift")]
    assert places == [(3, 2), (3, 5), (4, 3), (4, 4), (2, 1), (2, 6)]
    assert [weight for weight, _ in views(x, "shift")] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    large = torch.zeros(1, 1, 64, 64)
    large[..., 30, 20] = 1
    assert tuple(views(large, "shift")[2][1][0, 0].nonzero()[0].tolist()) == (32, 22)


def test_the_test_alone_looks_at_views() -> None:
    torch.manual_seed(0)
    model = Classifier("convnet", num_classes=3, in_channels=3, image_size=8, tta="flip").eval()
    batch = {"image": X, "label": torch.tensor([0, 1, 2, 0]), "sample_id": torch.arange(4)}
    plain, mirrored = model(X), model(X.flip(3))
    assert not torch.allclose(plain, mirrored)
    mean = (plain + mirrored) / 2
    assert torch.allclose(model.test_step(batch, 0)["logits"], mean)  # type: ignore[arg-type]
    assert torch.allclose(model.predict_step(batch, 0)["probs"], mean.softmax(1))  # type: ignore[arg-type]
    assert torch.allclose(model.validation_step(batch, 0)["logits"], plain)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bars to the left or to the right, in noise."""
    for split, count in (("train", 24), ("test", 12)):
        for name, column in (("left", 2), ("right", 5)):
            (tmp_path / "bars" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 160, (12, 12, 3), np.uint8)
                pixels[:, column] = 255
                Image.fromarray(pixels).save(tmp_path / "bars" / split / name / f"{i}.png")
    return tmp_path / "bars"


@pytest.mark.flag("--tta", "--test-time-augmentation")
def test_run_evaluate_and_predict_agree(folder: Path, tmp_path: Path) -> None:
    settings = {"dataset": str(folder), "arch": "convnet", "epochs": 2, "logger": ["none"], "accelerator": "cpu"}
    runs = {tta: fit(**settings, tta=tta, run_dir=str(tmp_path / tta)) for tta in ("none", "shift")}
    assert runs["none"].metrics["test/loss"] != runs["shift"].metrics["test/loss"]
    assert runs["none"].metrics["val/loss"] == runs["shift"].metrics["val/loss"]
    again = evaluate(tmp_path / "shift", "test")["metrics"]
    assert again["test/loss"] == pytest.approx(runs["shift"].metrics["test/loss"], rel=1e-5)
    recorded = rows(tmp_path / "shift", split="test")
    found = predict(tmp_path / "shift", split="test").table
    label = np.array(found["label"].to_pylist())
    p_label = np.where(label == "left", found["p_left"], found["p_right"])
    np.testing.assert_allclose(np.sort(recorded["p_label"].to_numpy()), np.sort(p_label), atol=2e-3)


def test_where_it_would_be_wrong_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it mirrors images, and these are of characters"):
        small_fit(tmp_path / "run", tta="flip")
    with pytest.raises(ConfigError, match="the data are a table"):
        fit("iris", tta="flip", run_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
