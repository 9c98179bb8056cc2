"""Features are a table: several heads train on them at once, and folds, settings and sweeps share them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_bodies import ARCH, save_sides, save_weights
from small_runs import last, rows

import litscope
from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError
from litscope.evaluation.evaluate import evaluate
from litscope.experiments.cv import cross_validate
from litscope.experiments.tune import tune
from litscope.training.fit import RunResult, fit
from litscope.training.probes.lr_find import lr_find


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images in two classes."""
    return save_sides(tmp_path_factory.mktemp("sides"), each=24)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights") / "seven.pt")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LITSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def flags(weights: Path, **more: Any) -> dict[str, Any]:
    usual = {"arch": ARCH, "weights": str(weights), "image_size": 64, "batch_size": 8, "epochs": 2, "augment": "none"}
    fixed = {"accelerator": "cpu", "precision": "32", "num_threads": 1, "channels_last": True, "progress": False}
    return {**usual, **fixed, "finetune": "head", "val_split": 0.25, **more}


def head(folder: Path, weights: Path, run_dir: Path, **more: Any) -> RunResult:
    return fit(str(folder), run_dir=str(run_dir), **flags(weights, **more))


@pytest.fixture(scope="module")
def three(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("three") / "run"
    head(folder, weights, path, num_members=3, finetune="auto", epochs=3)
    return path


@pytest.mark.flag("--num-members")
def test_several_heads_are_one_network_for_whoever_loads_it(three: Path, folder: Path) -> None:
    state = last(three)["state_dict"]
    heads = state["net.classifier.weight"]
    assert heads.shape == (3, 2, 256)
    assert not torch.equal(heads[0], heads[1]), "each starts from weights of its own"
    assert len(rows(three)) == 3 * 48, "every visit is on record"
    lines = [json.loads(line) for line in (three / "metrics" / "epochs.jsonl").read_text().splitlines()]
    assert {"val/loss_member_0", "val/loss_member_2"} <= lines[-1].keys()
    assert evaluate(three, "val", "last")["metrics"]["val/loss"] == pytest.approx(lines[-1]["val/loss"], rel=1e-2)
    found = litscope.load(three).predict(folder / "left")
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.slow
def test_each_head_becomes_what_it_would_alone(folder: Path, weights: Path, tmp_path: Path) -> None:
    rates, decays = [0.01, 0.002], [0.1, 0.0]
    head(folder, weights, tmp_path / "all", num_members=2, member_lr=rates, member_weight_decay=decays)
    together = last(tmp_path / "all")["state_dict"]
    for number, (lr, decay) in enumerate(zip(rates, decays, strict=True)):
        head(folder, weights, tmp_path / str(number), lr=lr, weight_decay=decay, body_lr_scale=1.0)
        alone = last(tmp_path / str(number))["state_dict"]
        for name, shape in (("weight", (2, 256)), ("bias", (2,))):
            of_member = together[f"net.classifier.{name}"][number].reshape(shape)
            torch.testing.assert_close(of_member, alone[f"net.classifier.{name}"], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_folds_share_the_features_and_train_in_one_run(
    folder: Path, weights: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_from_keywords(
        dataset=str(folder), run_dir=str(tmp_path / "cv"), **flags(weights, epochs=20, lr=0.02, val_split=0.1)
    )
    found = cross_validate(recipe, 4)
    assert "cv: 4 folds, in one run" in capsys.readouterr().err
    assert found.is_at_once
    assert sum(int(fold["num_samples"] or 0) for fold in found.folds) == 48
    assert float(found.pooled["accuracy"] or 0) > 0.9
    assert len(list(cache.glob("*.npy"))) == 1, "computed once, for training and prediction"


@pytest.mark.slow
def test_folds_that_cannot_share_a_run_share_the_features(
    folder: Path, weights: Path, tmp_path: Path, cache: Path
) -> None:
    recipe = recipe_from_keywords(
        dataset=str(folder),
        run_dir=str(tmp_path / "cv"),
        **flags(weights, gradient_clip_val=1.0, epochs=1, val_split=0.1),
    )
    found = cross_validate(recipe, 2)
    assert not found.is_at_once
    assert len(list(cache.glob("*.npy"))) == 1


@pytest.mark.slow
def test_settings_of_a_head_are_tried_at_once(
    folder: Path, weights: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_from_keywords(dataset=str(folder), run_dir=str(tmp_path / "tune"), **flags(weights, epochs=2))
    found = tune(recipe, ["lr=1e-4..1e-1"], 4)
    assert "tune: 4 trials, 8 at once" in capsys.readouterr().err
    assert len({trial.run for trial in found.trials}) == 1
    assert len({trial.value for trial in found.trials}) > 1
    assert len(list(cache.glob("*.npy"))) == 1


@pytest.mark.slow
def test_rates_are_swept_on_features(
    folder: Path, weights: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lr_find(recipe_from_keywords(dataset=str(folder), **flags(weights)), num_sweeps=2, num_steps=60)
    assert "features: 256 of each of 48 images" in capsys.readouterr().err
    assert len(found.sweeps) == 2


def test_a_fitted_head_follows_what_was_decided(folder: Path, weights: Path, tmp_path: Path) -> None:
    """All labels are exchanged by the actions with which the run begins, and some samples are discarded."""
    keys = {name: [f"{name}/{i:02d}.png" for i in range(24)] for name in ("left", "right")}
    lines: list[dict[str, Any]] = [
        {"what": "relabel", "key": keys["left"], "label": "right"},
        {"what": "relabel", "key": keys["right"], "label": "left"},
        {"what": "discard", "key": keys["left"][:6]},
    ]
    file = tmp_path / "decided.jsonl"
    with file.open("w") as out:
        for number, line in enumerate(lines):
            about = {"id": f"a{number}"}
            out.write(json.dumps({**about, "sample_id": list(range(len(line["key"]))), **line}) + "\n")
    result = head(
        folder, weights, tmp_path / "run", finetune="lp-ft", actions=str(file), lr=1e-12, epochs=1, body_lr_scale=0.1
    )
    assert result.metrics["train/accuracy"] > 0.95


def test_what_is_refused(folder: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--num-members 2: whole networks of .* are an ensemble"):
        head(folder, weights, tmp_path / "run", num_members=2, finetune="full", model_type="single")
    with pytest.raises(ConfigError, match="--num-members 2: whole networks of convnet are an ensemble"):
        fit(str(folder), arch="convnet", num_members=2, run_dir=str(tmp_path / "run"), model_type="single")


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
@pytest.mark.parametrize("members", [{}, {"num_members": 2, "member_lr": [0.01, 0.002]}])
def test_a_compiled_step_of_a_head(
    members: dict[str, Any], folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The body has batch norms, and is not run: the step is that of a head on rows."""
    for name, steps in (("compiled", "auto"), ("plain", 1)):
        head(folder, weights, tmp_path / name, steps_per_call=steps, epochs=3, **members)
        assert ("compiled in" in capsys.readouterr().err) == (name == "compiled")
    one, other = (last(tmp_path / name)["state_dict"]["net.classifier.weight"] for name in ("compiled", "plain"))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
