"""Which run and checkpoint `--resume` and `--resume-from-checkpoint` name, and the recipe that is taken from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from litscope.config.flags import parse, recipe_from_keywords
from litscope.config.recipe import Recipe
from litscope.config.resume import resolve_resume
from litscope.config.yamlfile import dump
from litscope.errors import RunError


def make_run(folder: Path, checkpoints: tuple[str, ...] = ("last.ckpt",), **keywords: Any) -> Path:
    """A run's folder as `resume` sees it: a recipe, and checkpoint files."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump(recipe_from_keywords(**keywords)))
    for name in checkpoints:
        (folder / "checkpoints" / name).write_text("weights")
    return folder


def test_resume_takes_the_runs_recipe_as_base(in_tmp: Path) -> None:
    make_run(Path("runs/a"), dataset="digits", lr=0.5, epochs=3, name="a")
    recipe = parse(["--resume", "runs/a", "--epochs", "9"])
    assert (recipe.data.dataset, recipe.training.lr, recipe.training.epochs) == ("digits", 0.5, 9)
    assert resolve_resume(recipe)[:2] == (Path("runs/a/checkpoints/last.ckpt"), Path("runs/a"))
    assert recipe_from_keywords(resume="a", epochs=9).training.lr == 0.5
    Path("x.yaml").write_text("training: {lr: 0.25}")
    assert parse(["--resume", "last", "--config", "x.yaml"]).training.lr == 0.25


@pytest.mark.parametrize(
    "words",
    [
        ["--resume", "runs/a"],
        ["--resume", "a"],
        ["--resume", "runs/a/checkpoints/last.ckpt"],
        ["--resume-from-checkpoint", "last", "--name", "a"],
        ["--resume", "last", "--run-dir", "runs/a"],
        ["--resume", "runs/a/checkpoints/last.ckpt", "--run-dir", "runs/a"],
    ],
)
def test_ways_to_name_a_run(in_tmp: Path, words: list[str]) -> None:
    make_run(Path("runs/a"), dataset="digits")
    make_run(Path("runs/b"), dataset="iris")
    recipe = parse(words)
    assert recipe.data.dataset == "digits"
    assert resolve_resume(recipe)[:2] == (Path("runs/a/checkpoints/last.ckpt"), Path("runs/a"))


def test_last_without_a_name_is_the_newest_run_that_has_a_checkpoint(in_tmp: Path) -> None:
    import os

    for age, name in enumerate(["new_but_empty", "new", "old"]):
        run = make_run(Path("runs") / name, () if "empty" in name else ("last.ckpt",))
        os.utime(run / "recipe.yaml", (1e9 - age, 1e9 - age))
    assert resolve_resume(parse(["--resume", "last"]))[1] == Path("runs/new")


def test_best_follows_the_summary_or_the_files_names(in_tmp: Path) -> None:
    names = ("last.ckpt", "epoch01-val_loss0.5000.ckpt", "epoch02-val_loss0.2500.ckpt", "epoch03-val_loss0.3000.ckpt")
    run = make_run(Path("runs/a"), names, monitor="val/loss", mode="min")
    recipe = parse(["--resume", "best"])
    assert resolve_resume(recipe)[0] == run / "checkpoints/epoch02-val_loss0.2500.ckpt"
    (run / "summary.json").write_text('{"checkpoints": {"best": "/elsewhere/epoch01-val_loss0.5000.ckpt"}}')
    assert resolve_resume(recipe)[0] == run / "checkpoints/epoch01-val_loss0.5000.ckpt"


def test_a_new_folder_starts_a_new_run_from_the_checkpoint(in_tmp: Path) -> None:
    make_run(Path("runs/a"), dataset="digits")
    recipe = parse(["--resume", "runs/a", "--name", "b"])
    assert recipe.data.dataset == "digits"
    assert resolve_resume(recipe)[:2] == (Path("runs/a/checkpoints/last.ckpt"), None)


def test_a_checkpoint_folder_of_the_runs_own_is_found(in_tmp: Path) -> None:
    make_run(Path("runs/a"), (), checkpoint_dir="kept")
    Path("kept").mkdir()
    Path("kept/last.ckpt").write_text("weights")
    for resume in ("runs/a", "kept/last.ckpt"):
        assert resolve_resume(parse(["--resume", resume]))[:2] == (Path("kept/last.ckpt"), Path("runs/a"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "runs/aa"], "Newest runs: runs/a"),
        (["--resume", "lats"], "Did you mean 'last'"),
        (["--resume", "best"], "has no best checkpoint"),
        (["--resume", "best", "--name", "a"], "There are: last.ckpt"),
        (["--resume", "last", "--name", "zzz"], "does not exist"),
    ],
)
def test_resume_errors_list_what_exists(in_tmp: Path, words: list[str], message: str) -> None:
    make_run(Path("runs/a"))
    with pytest.raises(RunError) as caught:
        parse(words)
    assert message in str(caught.value)


def test_no_resume() -> None:
    assert resolve_resume(Recipe()) == (None, None, "")
