"""The flags of Weights & Biases, with the real package, offline: what they say is what its run holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError
from litscope.rundir import RunDir
from litscope.training import loggers
from litscope.training.fit import fit
from litscope.training.loggers import check_loggers, make_loggers, watch

wandb = pytest.importorskip("wandb", reason="litscope[wandb] is not installed")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")
    yield
    wandb.finish()


def experiment(tmp_path: Path, **flags: Any) -> Any:
    """The W&B run of a recipe with these flags, offline unless they say otherwise."""
    recipe = recipe_from_keywords(**{"dataset": "iris", "logger": "wandb", "wandb_mode": "offline", **flags})
    recipe.check()
    check_loggers(recipe)
    (logger,) = make_loggers(recipe, RunDir(tmp_path / "a_run"), attempt=1)
    return logger.experiment


@pytest.mark.slow
@pytest.mark.flag("wandb_project", "wandb_name", "wandb_entity", "wandb_tags", "wandb_notes")
def test_names_tags_and_notes(tmp_path: Path) -> None:
    run = experiment(
        tmp_path,
        wandb_project="lenses",
        wandb_name="first",
        wandb_entity="a-team",
        wandb_tags=["small", "gray"],
        wandb_notes="a note",
    )
    assert (run.project, run.name, run.entity) == ("lenses", "first", "a-team")
    assert run.tags == ("small", "gray")
    assert run.notes == "a note"


@pytest.mark.slow
@pytest.mark.flag("wandb_name", "wandb_project")
def test_defaults(tmp_path: Path) -> None:
    run = experiment(tmp_path)
    assert (run.project, run.name) == ("litscope", "a_run")


@pytest.mark.slow
def test_without_a_key_and_a_person_it_records_offline_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        result = fit("iris", epochs=1, wandb_project="lenses", run_dir=str(tmp_path / "run"), accelerator="cpu")
    said = capsys.readouterr().err
    assert "no API key here, and nobody to ask for one: the run is recorded offline" in said
    assert "wandb sync" in said
    assert result.summary["status"] == "finished"


@pytest.mark.parametrize("host", ["api.wandb.ai", "wandb.example.org"])
def test_a_key_of_wandb_login_is_found_by_its_host(tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 1234\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", f"https://{host}")
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert loggers._can_log_in() == (host == "api.wandb.ai")


@pytest.mark.flag("wandb_mode")
def test_mode(tmp_path: Path) -> None:
    run = experiment(tmp_path, wandb_mode="disabled")
    assert run.disabled
    wandb.finish()
    run = experiment(tmp_path, wandb_mode="offline")
    assert not run.disabled
    assert run.offline


@pytest.mark.thorough
@pytest.mark.flag("wandb_watch")
@pytest.mark.parametrize("is_on", [True, False])
def test_watch_hooks_the_gradients(is_on: bool, tmp_path: Path) -> None:
    recipe = recipe_from_keywords(dataset="iris", logger="wandb", wandb_mode="offline", wandb_watch=is_on)
    loggers = make_loggers(recipe, RunDir(tmp_path / "a_run"), attempt=1)
    net = torch.nn.Linear(2, 2)
    watch(loggers, net, recipe)
    assert bool(net.weight._backward_hooks) is is_on


@pytest.mark.flag("wandb_log_model")
@pytest.mark.parametrize("is_on", [True, False])
def test_log_model(is_on: bool, tmp_path: Path) -> None:
    recipe = recipe_from_keywords(dataset="iris", logger="wandb", wandb_mode="disabled", wandb_log_model=is_on)
    (logger,) = make_loggers(recipe, RunDir(tmp_path / "a_run"), attempt=1)
    assert logger._log_model is is_on


@pytest.mark.flag("wandb_log_model", "wandb_mode")
def test_offline_there_is_nowhere_to_put_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--wandb-log-model true: an offline run"):
        experiment(tmp_path, wandb_log_model=True)


@pytest.mark.flag("use_wandb", "logger")
def test_a_run_is_written_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit("iris", use_wandb=True, wandb_mode="offline", epochs=1, run_dir=str(tmp_path / "run"))
    (offline,) = (tmp_path / "run" / "logs" / "wandb").glob("offline-run-*")
    (record,) = offline.glob("*.wandb")
    assert b"val/accuracy" in record.read_bytes()
    assert capsys.readouterr().err.count(f"to upload it: wandb sync {offline}\n") == 1


def test_a_key_that_is_refused_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a key")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match=r"Weights & Biases: .*API key.*--wandb-mode offline"):
        fit("iris", use_wandb=True, epochs=1, run_dir=str(tmp_path / "run"))
    assert fit("iris", epochs=1, run_dir=str(tmp_path / "run")).summary["status"] == "finished", "the folder is free"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Weights & Biases"):
        fit("iris", use_wandb=True, epochs=1)
    assert list((tmp_path / "runs").iterdir()) == [], "nor does one stay that was made for it"
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    with pytest.raises(ConfigError, match="Weights & Biases"):
        fit(resume=tmp_path / "run", use_wandb=True, epochs=2)
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before, "a run that goes on is left as it was"
