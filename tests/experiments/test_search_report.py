"""What a search leaves for people: how much each setting explains, pictures, and a page."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from litscope.experiments.search_report import report
from litscope.experiments.search_space import parse_space
from litscope.experiments.study import LEAST_EXPLAINED, explained
from litscope.experiments.trials import Trial, TuneResult

SPACE = parse_space(["lr=1e-4..1e-1", "optimizer=sgd,adamw", "batch_size=8..64"])


def made(count: int = 24) -> list[Trial]:
    """Trials whose value the rate decides, and the optimizer a little."""
    random = np.random.default_rng(3)
    trials = []
    for number in range(1, count + 1):
        lr, name = 10 ** random.uniform(-4, -1), random.choice(["sgd", "adamw"])
        value = abs(math.log10(lr) + 2.5) + 0.2 * (name == "sgd")
        settings = {"lr": float(lr), "optimizer": str(name), "batch_size": int(random.integers(8, 65))}
        trials.append(Trial(number, settings, value, f"trial-{number:03d}", 1.5))
    return trials


def with_losses(folder: Path) -> TuneResult:
    """Among the trials one that failed and one that was stopped; names as strangers write them."""
    trials = made()
    trials[4] = Trial(5, trials[4].settings, None, "trial-005", 0.1, reason="no room for <b>this</b>")
    trials[7] = Trial(8, trials[7].settings, 9.0, "trial-008", 0.1, stopped_after=2)
    (folder / "best.yaml").write_text("# a comment\ndata:\n  dataset: <iris> & co\n")
    return TuneResult("<iris> & co", "val/loss", "min", tuple(trials), folder)


def test_importance_is_what_optuna_says() -> None:
    trials = made()
    found = explained(trials, SPACE, "min", seed=0)
    assert found is not None
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.6
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-3)
    study = optuna.create_study()
    for trial in trials:
        given = {d.field.name: d.distribution for d in SPACE}
        study.add_trial(optuna.trial.create_trial(params=trial.settings, distributions=given, value=trial.value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert found == pytest.approx(theirs, abs=1e-4)


def test_of_few_trials_or_equal_ones_nothing_is_said() -> None:
    assert explained(made(LEAST_EXPLAINED - 1), SPACE, "min", 0) is None
    same = [Trial(t.number, t.settings, 1.0, t.run, 1.0) for t in made()]
    assert explained(same, SPACE, "min", 0) is None
    stopped = [Trial(t.number, t.settings, t.value, t.run, 1.0, stopped_after=1) for t in made()]
    assert explained(stopped, SPACE, "min", 0) is None


@pytest.mark.pictures
def test_the_page_has_all_of_it_and_needs_nothing_else(tmp_path: Path) -> None:
    found = report(with_losses(tmp_path), SPACE, seed=0)
    assert [path.name for path in found.pictures] == ["history.png", "slices.png", "parallel.png", "importance.png"]
    for path in found.pictures:
        with Image.open(path) as picture:
            colours = {tuple(colour) for colour in np.asarray(picture.convert("RGB"))[::3, ::3].reshape(-1, 3)}
            assert picture.width > 300
        assert len(colours) > 3, "something is drawn"
    assert found.page == tmp_path / "tune.html"
    text = found.page.read_text()
    assert text.count('src="data:image/png;base64,') == 4
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<b>this" not in text
    assert "failed: no room for &lt;b&gt;this" in text
    assert "stopped after 2 epochs" in text
    assert html.escape("<iris> & co") in text
    best = found.ranked[0]
    assert f"trial {best.number}" in text
    assert text.count("<tr class=") == 24
    assert f"litscope fit --config {tmp_path / 'best.yaml'}" in text
    assert "# a comment" not in text
    lines = "\n".join(found.lines())
    assert "importance, the share of val/loss that each explains: lr 0." in lines
    assert "1 of them failed, without val/loss: no room for <b>this</b>" in lines
    assert "1 of them were stopped early" in lines


def test_a_search_of_one_trial_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("data: {}\n")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "importance.png").write_bytes(b"of an earlier search")
    one = TuneResult("iris", "val/accuracy", "max", tuple(made(1)), tmp_path)
    found = report(one, SPACE, seed=0)
    assert found.importance is None
    assert [path.stem for path in found.pictures] == ["history", "slices", "parallel"]
    assert not (tmp_path / "figures" / "importance.png").exists()
    assert found.page is not None
    assert "nothing is said of the importance" in found.page.read_text()
