"""The beginning is told once: who prepares a run refuses what `fit` refuses, with its sentence, and writes nothing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import DIGITS, IRIS, small_fit

from litscope.config.flags import recipe_from_keywords
from litscope.config.recipe import DataConfig, LoggingConfig, Recipe, TrainingConfig
from litscope.errors import UserError
from litscope.experiments.cv import cross_validate
from litscope.rundir import RunDir
from litscope.training.checkup import check_up
from litscope.training.fit import run_recipe
from litscope.training.prepare import prepare, seeded_classifier
from litscope.training.probes.batch_find import batch_size_find
from litscope.training.probes.lr_find import lr_find

COMMANDS: dict[str, Callable[[Recipe], Any]] = {
    "fit": run_recipe,
    "check": check_up,
    "lr-find": lr_find,
    "batch-size-find": batch_size_find,
}

ON_CPU = {"accelerator": "cpu", "logger": ["none"], "progress": False}


@pytest.fixture
def files(in_tmp: Path) -> Path:
    """What the wrong recipes name: images, tables, files that are not what they should be."""
    for i in range(12):
        file = in_tmp / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 100), (20 * i, 0, 0)).save(file)
    shutil.copytree("photos", "broken")
    (in_tmp / "broken/a/2.png").write_bytes(b"not a picture")
    (in_tmp / "weights.csv").write_text("class,weight\nsetosa,1\nversicolor,1\nvirginca,2\n")
    (in_tmp / "words.txt").write_text("neither a checkpoint nor weights")
    (in_tmp / "actions.jsonl").write_text('{"what": "dance"}\n')
    (in_tmp / "relabel.jsonl").write_text(_relabel("rose"))
    np.savez(in_tmp / "two.npz", X=np.eye(2, dtype=np.float32), y=np.arange(2))
    return in_tmp


def _relabel(label: str) -> str:
    from litscope.ledger.journal.verbs import request

    return json.dumps({**request("relabel", sample_id=[0], label=label), "key": ["iris/00000"]}) + "\n"


def told(command: str, recipe: Recipe) -> str:
    with pytest.raises(UserError) as refused:
        COMMANDS[command](recipe)
    return f"{type(refused.value).__name__}: {refused.value}"


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({}, "No data set is given"),
    "no such data": ({"dataset": "nowhere"}, "nowhere"),
    "monitor without validation": (
        {"dataset": "iris", "val_split": 0.0, "monitor": "val/f1"},
        "--monitor val/f1: there is no validation",
    ),
    "weights of an unknown class": (
        {"dataset": "iris", "class_weights": "weights.csv"},
        "'virginca' is not a class of the data",
    ),
    "class weights that are none": ({"dataset": "iris", "class_weights": "words.txt"}, "neither JSON"),
    "number of classes": ({"dataset": "iris", "num_classes": 4}, "--num-classes 4: the data have 3 classes"),
    "number of channels": ({"dataset": "digits", "in_channels": 3}, "--in-channels 3: the data have 1 channels"),
    "mirrored characters": ({"dataset": "digits", "tta": "flip"}, "--tta flip: it mirrors images"),
    "padding of small images": ({"dataset": "digits", "crop_padding": 8}, "give at most 7"),
    "padding of large images": (
        {"dataset": "photos", "image_size": 96, "crop_padding": 2, "pretrained": False},
        "--crop-padding 2: the images are 96 pixels wide",
    ),
    "unknown optimizer": ({"dataset": "digits", "optimizer": "adamx"}, "optimizer is 'adamx'"),
    "optimizer without its package": ({"dataset": "digits", "optimizer": "bnbadam8bit"}, "needs a package"),
    "unknown architecture": ({"dataset": "digits", "arch": "resnet81"}, "There is no architecture 'resnet81'"),
    "an architecture of images": ({"dataset": "iris", "arch": "resnet18"}, "only mlp takes tables"),
    "images too small for it": ({"dataset": "digits", "arch": "whitenet", "image_size": 4}, "whitenet takes images"),
    "weights that cannot be had": (
        {"dataset": "digits", "arch": "convnet", "pretrained": True},
        "Pretrained weights of convnet cannot be had",
    ),
    "weights that are none": ({"dataset": "digits", "arch": "convnet", "weights": "words.txt"}, "words.txt"),
    "mixup of a table's kind": ({"dataset": "iris", "cutmix": 0.5}, "this is for images"),
    "steps of a call": (
        {"dataset": "photos", "cache": False, "steps_per_call": 4, "arch": "convnet", "pretrained": False},
        "--steps-per-call 4: the images are decoded by workers",
    ),
    "an Apple GPU": ({"dataset": "iris", "accelerator": "mps"}, "--accelerator mps: no Apple GPU"),
    "numbers of GPUs": ({"dataset": "iris", "devices": "0,3"}, "a list chooses among GPUs"),
    "machines without addresses": ({"dataset": "iris", "num_nodes": 2}, "--num-nodes 2: set MASTER_ADDR"),
    "batch norm over processes": ({"dataset": "iris", "devices": "2", "sync_batchnorm": True}, "works on GPUs only"),
    "fewer samples than devices": (
        {"dataset": "two.npz", "devices": "3", "val_split": 0.0},
        "2 training samples cannot be shared by 3 devices",
    ),
    "resume of no checkpoint": ({"dataset": "iris", "resume": "words.txt"}, "cannot be read as a checkpoint"),
    "unreadable files": ({"dataset": "broken", "strict_data": True}, "1 files cannot be read, and --strict-data is on"),
    "actions that are none": ({"dataset": "iris", "actions": "actions.jsonl"}, "line 1 is not an action"),
    "actions with a strange class": ({"dataset": "iris", "actions": "relabel.jsonl"}, "'rose' is not a class"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", WRONG)
def test_all_refuse_with_the_same_sentence(what: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    flags, sentence = WRONG[what]
    if flags.get("accelerator") == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    before = contents(files)
    recipe = recipe_from_keywords(**{**ON_CPU, **flags})
    said = {command: told(command, recipe) for command in COMMANDS}
    assert sentence in said["fit"]
    assert set(said.values()) == {said["fit"]}, said
    assert contents(files) == before


@pytest.mark.parametrize(
    ("recipe", "flag"),
    [
        (Recipe(data=DataConfig(dataset="iris", batch_size=0)), "--batch-size 0"),
        (Recipe(data=DataConfig(dataset="iris", val_split=1.5)), "--val-split 1.5"),
        (Recipe(data=DataConfig(dataset="iris"), training=TrainingConfig(resume="last")), "no run with a checkpoint"),
        (Recipe(data=DataConfig(dataset="iris"), training=TrainingConfig(monitor="val/fame")), "val/fame"),
        (Recipe(data=DataConfig(dataset="iris"), training=TrainingConfig(class_weights="none.csv")), "none.csv"),
    ],
)
def test_a_recipe_made_in_python_is_checked_by_all(recipe: Recipe, flag: str, in_tmp: Path) -> None:
    said = {told(command, recipe) for command in COMMANDS}
    assert len(said) == 1
    assert flag in said.pop()
    assert contents(in_tmp) == []


def test_a_logger_that_is_not_installed(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a))
    recipe = Recipe(data=DataConfig(dataset="iris"), logging=LoggingConfig(logger=["mlflow"]))
    said = {told(command, recipe) for command in COMMANDS}
    assert len(said) == 1
    assert "pip install 'litscope[mlflow]'" in said.pop()
    assert contents(in_tmp) == []


@pytest.mark.slow
def test_what_stands_against_going_on(in_tmp: Path) -> None:
    """Fewer epochs than are done, for all; other data and a folder that is taken, for who writes into it."""
    small_fit(in_tmp / "run", IRIS)
    before = contents(in_tmp)
    said = {told(command, recipe_from_keywords(resume="run", epochs=1)) for command in COMMANDS}
    assert len(said) == 1
    assert "has 3 epochs behind it" in said.pop()
    for flags, sentence in (
        ({"resume": "run", "epochs": 9, "val_split": 0.4}, "not those that run was trained on"),
        ({"dataset": "iris", "run_dir": "run", **ON_CPU}, "run already holds a run"),
    ):
        said = {told(command, recipe_from_keywords(**flags)) for command in ("fit", "check")}
        assert len(said) == 1
        assert sentence in said.pop()
    assert contents(in_tmp) == before


def test_a_cross_validation_refuses_before_it_has_a_folder(files: Path) -> None:
    before = contents(files)
    recipe = recipe_from_keywords(dataset="iris", class_weights="weights.csv", **ON_CPU)
    with pytest.raises(UserError, match="'virginca' is not a class of the data"):
        cross_validate(recipe, 3)
    assert contents(files) == before


@pytest.mark.parametrize(
    "flags",
    [
        {"dataset": "iris"},
        {"dataset": "digits", "crop_padding": 3, "monitor": "val/f1"},
        {"dataset": "digits", "val_split": 0.0, "tta": "none", "class_weights": "balanced"},
        {"dataset": "digits", "steps_per_call": 2, "run_dir": "there/run"},
        {"dataset": "photos", "arch": "convnet", "image_size": 32, "cache": False, "num_workers": 1},
        {"dataset": "broken", "arch": "convnet", "image_size": 32, "pretrained": False},
        {"dataset": "iris", "num_folds": 3, "num_members": 3, "optimizer": "adam"},
        {"dataset": "iris", "fast_dev_run": True, "patience": 2},
    ],
)
def test_what_fit_accepts_check_accepts(flags: dict[str, Any], files: Path) -> None:
    recipe = recipe_from_keywords(**{**ON_CPU, "max_steps": 2, **flags})
    before = contents(files)
    found = check_up(recipe)
    assert contents(files) == before
    assert "hardware: cpu" in "\n".join(found.lines())
    result = run_recipe(recipe)
    assert result.summary["status"] == "finished"
    assert result.summary["arch"] == found.start.recipe.model.arch


@pytest.fixture
def no_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Nobody is asked for the address of a host: the list of those that were asked for stays empty. No weights here."""
    asked = []

    def record(host: str, *_args: Any, **_kwargs: Any) -> Any:
        asked.append(host)
        raise OSError("no such host")

    def check() -> None:
        assert asked == []

    monkeypatch.setattr(socket, "getaddrinfo", record)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no" / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "no" / "torch"))
    return check


@pytest.mark.parametrize("flags", [{"arch": "resnet18"}, {"arch": "torchvision/resnet18", "pretrained": True}])
def test_check_asks_no_network_and_says_what_would_be_downloaded(
    flags: dict[str, Any], files: Path, no_resolver: Callable[[], None]
) -> None:
    before = contents(files)
    found = check_up(recipe_from_keywords(**{**ON_CPU, "dataset": "photos", **flags}))
    no_resolver()
    assert contents(files) == before
    assert found.start.recipe.model.pretrained is True
    host = "download.pytorch.org" if "torchvision" in flags["arch"] else "huggingface.co"
    (line,) = [line for line in found.lines() if "would be downloaded" in line]
    assert line.startswith(f"pretrained weights would be downloaded from https://{host}/")
    is_asked_for = "pretrained" in flags
    assert line.endswith("ends there, as --pretrained asks" if is_asked_for else "chooses to start from scratch")
    assert found.to_dict()["download"] in line


def test_check_says_that_the_hub_is_not_to_be_asked(
    files: Path, no_resolver: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = check_up(recipe_from_keywords(**{**ON_CPU, "dataset": "photos", "arch": "resnet18"}))
    no_resolver()
    assert found.start.recipe.model.pretrained is False
    assert "HF_HUB_OFFLINE is set" in "\n".join(found.lines())
    assert found.download is None


@pytest.mark.thorough
@pytest.mark.parametrize(
    "flags",
    [
        {"dataset": "photos", "pretrained": False, "image_size": 32},
        {"dataset": "photos", "arch": "convnet", "image_size": 32},
        {"dataset": "digits"},
        {"dataset": "iris"},
    ],
)
def test_a_run_that_downloads_nothing_asks_no_network(
    flags: dict[str, Any], files: Path, no_resolver: Callable[[], None]
) -> None:
    run_recipe(recipe_from_keywords(**{**ON_CPU, "max_steps": 1, **flags}))
    no_resolver()


@pytest.mark.slow
def test_check_accepts_a_run_that_goes_on(in_tmp: Path) -> None:
    small_fit(in_tmp / "run", IRIS)
    recipe = recipe_from_keywords(resume="run", epochs=5)
    before = contents(in_tmp)
    start = check_up(recipe).start
    assert (start.folder, start.checkpoint) == (Path("run"), RunDir("run").last_checkpoint)
    assert contents(in_tmp) == before
    assert run_recipe(recipe).summary["epochs"] == 5


@pytest.mark.slow
def test_the_finders_start_from_the_weights_of_a_run_that_goes_on(in_tmp: Path) -> None:
    """After 60 epochs on iris the loss of the first step is far below that of a new network."""
    small_fit(in_tmp / "run", IRIS, epochs=60, lr=0.01)
    resumed, new = recipe_from_keywords(resume="run", epochs=90), recipe_from_keywords(**{**IRIS, "epochs": 90})
    first_loss = [lr_find(recipe, num_sweeps=1, num_steps=10).sweeps[0].loss[0] for recipe in (resumed, new)]
    assert first_loss[0] < 0.5 * first_loss[1]


def test_the_same_seed_prepares_the_same_network(in_tmp: Path) -> None:
    recipe = recipe_from_keywords(**DIGITS)
    one, two = (seeded_classifier(prepare(recipe)).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert recipe == recipe_from_keywords(**DIGITS), "the recipe as given is not changed"


@pytest.mark.parametrize("find", ["lr-find", "batch-size-find"])
def test_a_finder_does_not_leave_decisions_aside_unsaid(files: Path, find: str) -> None:
    Path("good.jsonl").write_text(_relabel("setosa"))
    recipe = recipe_from_keywords(**{**ON_CPU, "dataset": "iris", "actions": "good.jsonl"})
    assert told(find, recipe).startswith("ConfigError: --actions good.jsonl: it is for a run")
    assert len(check_up(recipe).start.actions) == 1, "who trains takes them"
