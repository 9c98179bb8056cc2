"""`litscope.cv`, `tune` and `lr_find` from Python: what the commands of these names find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import litscope
from litscope.cli import main

SMALL: dict[str, Any] = {"arch": "mlp", "epochs": 2, "accelerator": "cpu", "logger": ["none"], "progress": False}
FLAGS = ["--arch", "mlp", "--epochs", "2", "--accelerator", "cpu", "--logger", "none", "--no-progress", "--json"]


@pytest.mark.slow
def test_cv_is_the_command(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = litscope.cv("iris", folds=3, **SMALL)
    assert main(["cv", "iris", "--folds", "3", *FLAGS]) == 0
    printed = json.loads(capsys.readouterr().out)["result"]
    assert found.pooled == printed["pooled"]
    assert list(found.folds) == printed["folds"]
    accuracy = found.pooled["accuracy"]
    assert repr(found) == f"CvResult('iris': 3 folds, accuracy {accuracy:.4f} pooled, {str(found.table)!r})"


@pytest.mark.slow
def test_tune_takes_a_mapping_or_the_words_of_the_command(in_tmp: Path) -> None:
    as_mapping = litscope.tune("iris", search={"lr": "1e-3..1e-1", "batch_size": [16, 32]}, trials=3, **SMALL)
    as_words = litscope.tune("iris", search=["lr=1e-3..1e-1", "batch_size=16,32"], trials=3, **SMALL)
    assert [t.settings for t in as_mapping.trials] == [t.settings for t in as_words.trials]
    assert {t.settings["batch_size"] for t in as_mapping.trials} <= {16, 32}
    assert as_mapping.ranked[0].value == as_words.ranked[0].value
    best = as_mapping.ranked[0]
    assert repr(as_mapping) == (
        f"TuneResult('iris': 3 trials, best val/loss {best.value:.4g} with {best.words}; {str(as_mapping.folder)!r})"
    )
    with pytest.raises(litscope.UserError, match="a list of such words"):
        litscope.tune("iris", search="lr=1e-3..1e-1", **SMALL)


@pytest.mark.slow
@pytest.mark.pictures
def test_lr_find_suggests_and_plots(in_tmp: Path) -> None:
    found = litscope.lr_find("digits", num_sweeps=1, num_steps=60, **{**SMALL, "arch": "convnet"})
    assert found.suggestion is not None
    assert 1e-5 < found.suggestion < 1
    told = f"suggestion {found.suggestion:.2g}"
    assert repr(found) == f"LrResult({told}, {found.low:.2g} to {found.high:.2g} in 1 sweep)"
    assert repr(found.sweeps) == f"[Sweep({len(found.sweeps[0].lr)} steps, {told})]"
    assert found.plot("sweeps.png") == Path("sweeps.png")
    assert Path("sweeps.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(litscope.UserError, match="learning_rte"):
        litscope.lr_find("digits", learning_rte=1)
