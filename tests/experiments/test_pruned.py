"""`litscope.fit` in an Optuna objective: the snippet of the documentation, and what pruning leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pytest

import litscope
from litscope.errors import ConfigError
from litscope.rundir import RunDir, read_lines

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"
IRIS = {"accelerator": "cpu", "logger": ["none"], "progress": False}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_stopped_training_ends_in_order_and_its_trial_is_pruned(in_tmp: Path) -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=1))
    runs: list[RunDir] = []

    def objective(trial: optuna.Trial) -> float:
        pruning = litscope.Pruning(trial, "val/loss")
        result = litscope.fit("iris", epochs=6, callbacks=[pruning], **IRIS)
        runs.append(result.run)
        return pruning.value(result)

    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    rows = read_lines(runs[0].path / "metrics" / "epochs.jsonl")
    assert len(rows) == 2
    assert trial.intermediate_values == {row["epoch"]: pytest.approx(row["val/loss"]) for row in rows}
    assert json.loads(runs[0].summary.read_text())["status"] == "finished"


def test_the_metric_must_be_one(in_tmp: Path) -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(ConfigError, match=r"monitor='val/los'.*Did you mean 'val/loss'"):
        litscope.fit("iris", epochs=1, callbacks=[litscope.Pruning(trial, "val/los")], **IRIS)


@pytest.mark.slow
def test_the_objective_of_the_documentation_runs(in_tmp: Path) -> None:
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "Pruning" in code]
    names: dict[str, object] = {}
    exec(snippet, names)
    study = names["study"]
    assert isinstance(study, optuna.Study)
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 20
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert states.count("COMPLETE") >= 5
    best = study.best_trial
    again = litscope.fit("iris", epochs=9, **best.params)
    assert again.metrics["val/loss"] == best.value, "the same settings repeat it to the bit"
