"""Command lines and files that people bring along from other guides: each is understood, with its meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from litscope.commands.train import check, fit
from litscope.config.fields import GROUPS
from litscope.config.flags import parse, recipe_from_keywords
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError, DataError, ModelError, UserError
from litscope.models.networks.backbones import build as build_network
from litscope.rundir import RunDir
from litscope.training.fit import run_recipe

SHORT = ["--batch-size", "64", "--epochs", "1", "--accelerator", "cpu", "--no-progress"]
TINY = ["--image-size", "32", "--batch-size", "4", "--fast-dev-run", "--accelerator", "cpu", "--no-progress"]

THEIRS = """
model: {arch: resnet18, model_type: single, pretrained: true, dropout_rate: 0.5}
training: {epochs: 30, batch_size: 64, learning_rate: 3e-4}
hardware: {devices: 1, accelerator: auto, precision: 16-mixed}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images(here: Path) -> Path:
    """data/processed with `train/<class>` and `val/<class>`, sixteen images."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for label, low in (("cat", 0), ("dog", 120)):
            folder = here / "data" / "processed" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 120, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return here / "data" / "processed"


def values(recipe: Any, *keys: str) -> list[Any]:
    return [getattr(getattr(recipe, key.split(".")[0]), key.split(".")[1]) for key in keys]


# ---- the data --------------------------------------------------------------------------------


def test_a_named_data_set_in_a_folder() -> None:
    line = (
        "--model resnet50 --num-classes 10 --data-dir ./data --dataset cifar10 --epochs 100 --batch-size 32 --lr 0.001"
    )
    recipe = parse(line.split())
    assert values(recipe, "model.arch", "model.num_classes", "data.data_dir", "data.dataset") == [
        "resnet50", 10, "./data", "cifar10",
    ]  # fmt: skip
    assert values(recipe, "training.epochs", "data.batch_size", "training.lr") == [100, 32, 0.001]


@pytest.mark.thorough
@pytest.mark.flag("data_dir")
@pytest.mark.parametrize("line", ["--data-root DIR", "--data-dir DIR", "--data-root DIR --arch vit_b_16"])
def test_the_folder_alone_is_the_data(line: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(images) if word == "DIR" else word for word in line.split()]
    assert parse(words).data.dataset == str(images)
    assert recipe_from_keywords(data_root=str(images)).data.dataset == str(images)
    assert check([*words, "--accelerator", "cpu"]) == 0
    assert "cat" in capsys.readouterr().out


@pytest.mark.slow
def test_the_folder_is_trained_on(images: Path) -> None:
    assert fit(["--data-root", "data/processed", "--arch", "resnet18", "--epochs", "20", *TINY]) == 0
    (run,) = (images.parents[1] / "runs").iterdir()
    assert f"dataset: {images}\n" in RunDir(run).recipe.read_text()  # whole, so that it is found from anywhere


def test_a_folder_beside_a_source_is_where_named_data_lie(images: Path) -> None:
    assert values(parse(["digits", "--data-dir", "x"]), "data.dataset", "data.data_dir") == ["digits", "x"]
    (images / "a.yaml").write_text("data: {dataset: digits}\n")
    assert parse(["--config", str(images / "a.yaml"), "--data-dir", "x"]).data.dataset == "digits"


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("train-images-idx3-ubyte t10k-images-idx3-ubyte train-labels-idx1-ubyte t10k-labels-idx1-ubyte",
         "It holds mnist or fashion_mnist: give --dataset mnist too."),
        ("train.csv", "The data may be {folder}/train.csv: name that file."),
        ("notes.txt", "holds no images (1 other files)"),
    ],
)  # fmt: skip
def test_a_folder_without_data_gets_help(file: str, hint: str, here: Path) -> None:
    (here / "d").mkdir()
    for name in file.split():
        (here / "d" / name).write_text("")
    with pytest.raises(DataError) as caught:
        check(["--data-root", "d"])
    assert hint.format(folder="d") in str(caught.value)


# ---- Weights & Biases ------------------------------------------------------------------------


@pytest.mark.flag("use_wandb", "wandb_project", "wandb_name")
@pytest.mark.parametrize(
    ("line", "is_on"),
    [
        ("--wandb-project P --wandb-name N", True),
        ("--wandb-tags a", True),
        ("--wandb-watch", True),
        ("--wandb-mode offline", True),
        ("--wandb-project litscope", True),
        ("--wandb-mode disabled --wandb-project P", False),
        ("--no-wandb-watch", False),
        ("--wandb-project P --no-use-wandb", False),
        ("--epochs 3", False),
    ],
)
def test_any_flag_of_wandb_turns_it_on(line: str, is_on: bool) -> None:
    assert parse(line.split()).logging.use_wandb is is_on


def test_a_printed_configuration_stays_without_wandb(here: Path) -> None:
    (here / "a.yaml").write_text(dump(parse([])))
    assert not parse(["--config", "a.yaml"]).logging.use_wandb


# ---- hardware --------------------------------------------------------------------------------


@pytest.mark.flag("gpus", "nodes")
def test_gpus_and_nodes_are_devices_and_machines() -> None:
    assert values(parse(["--gpus", "2", "--nodes", "3"]), "hardware.devices", "hardware.num_nodes") == ["2", 3]
    assert recipe_from_keywords(gpus=[0, 1]).hardware.devices == "0,1"
    with pytest.raises(ConfigError, match="--devices 0:"):
        parse(["--gpus", "0"])


def test_a_tpu_is_not_offered_where_it_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="TPUs are not supported"):
        check(["iris", "--accelerator", "tpu"])
    with pytest.raises(ConfigError, match="it is one of auto, cpu, gpu, cuda, mps") as caught:
        parse(["--accelerator", "npu"])
    assert "tpu" not in str(caught.value)
    fit(["--help"])
    assert not re.search(r"\btpu\b", capsys.readouterr().out)


# ---- what is trained -------------------------------------------------------------------------


@pytest.mark.flag("model_type")
def test_model_type_is_a_setting_of_its_own() -> None:
    recipe = parse(["--model-type", "single", "--arch", "resnet18"])
    assert values(recipe, "model.model_type", "model.arch") == ["single", "resnet18"]
    with pytest.raises(ConfigError, match="--model-type single: --archs convnet,resnet18 are several"):
        parse(["--model-type", "single", "--archs", "convnet,resnet18"])
    with pytest.raises(ConfigError, match=r"--model-type vit_b_16: .*--arch vit_b_16"):
        recipe_from_keywords(model_type="vit_b_16")


@pytest.mark.flag("hidden")
def test_widths_of_an_mlp(here: Path) -> None:
    run_recipe(parse(["iris", "--hidden", "24,12", "--run-dir", "a", *SHORT]))
    text = RunDir(here / "a").recipe.read_text()
    assert "hidden: [24, 12]" in text
    state = torch.load(here / "a" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert [len(value) for name, value in state.items() if name.endswith("weight")] == [24, 12, 3]


def test_widths_of_members(here: Path) -> None:
    run_recipe(parse(["iris", "--hidden", "24", "--num-members", "2", "--run-dir", "a", *SHORT]))
    state = torch.load(here / "a" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {tuple(v.shape[:2]) for name, v in state.items() if name.endswith("weight")} == {(2, 24), (2, 3)}


def test_widths_are_for_an_mlp_alone(images: Path) -> None:
    for arch in ("resnet18", "convnet"):
        with pytest.raises(ConfigError, match=f"--hidden 32,16: it is for --arch mlp, not {arch}"):
            parse(["--hidden", "32,16", "--arch", arch])
    with pytest.raises(ConfigError, match="--hidden 32,0: each is 1 or more"):
        parse(["--hidden", "32,0"])
    with pytest.raises(ModelError, match="it is for an mlp, not for convnet"):
        build_network("convnet", 2, image_size=8, hidden=[4])
    assert fit(["--data-dir", str(images), "--hidden", "8", "--run-dir", "a", *TINY]) == 0  # then the network is an mlp
    assert "arch: mlp" in RunDir(Path("a")).recipe.read_text()


# ---- files -----------------------------------------------------------------------------------


@pytest.fixture
def theirs(here: Path) -> str:
    (here / "theirs.yaml").write_text(THEIRS)
    return "theirs.yaml"


def test_a_file_of_theirs_means_what_it_says(theirs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(["--config", theirs, "--print-config"]) == 0
    printed = Path("printed.yaml")
    printed.write_text(capsys.readouterr().out)
    asked = parse(["--config", theirs])
    assert parse(["--config", str(printed)]) == asked
    said = {
        "model.arch": "resnet18", "model.model_type": "single", "model.pretrained": True, "model.dropout_rate": 0.5,
        "training.epochs": 30, "data.batch_size": 64, "training.lr": 3e-4,
        "hardware.devices": "1", "hardware.accelerator": "auto", "hardware.precision": "16-mixed",
    }  # fmt: skip
    assert values(asked, *said) == list(said.values())
    others = {f"{group}.{f.name}": f.default for group, part in GROUPS.items() for f in part.fields()}
    assert all(values(asked, key) == [default] for key, default in others.items() if key not in said)


def test_a_key_in_two_sections_names_both_lines(here: Path) -> None:
    (here / "a.yaml").write_text("training:\n  epochs: 3\n  batch_size: 8\ndata:\n  batch_size: 9\n")
    with pytest.raises(ConfigError) as caught:
        parse(["--config", "a.yaml"])
    assert "a.yaml, line 5" in str(caught.value)
    assert "a.yaml, line 3" in str(caught.value)


def test_a_later_file_may_use_the_other_section(here: Path) -> None:
    (here / "a.yaml").write_text("training: {batch_size: 8}\n")
    (here / "b.yaml").write_text("data: {batch_size: 9}\n")
    assert parse(["--config", "a.yaml", "--config", "b.yaml"]).data.batch_size == 9
    assert parse(["--config", "b.yaml", "--config", "a.yaml"]).data.batch_size == 8


@pytest.mark.slow
@pytest.mark.flag("weights", "pretrained")
def test_weights_or_no_pretrained_over_a_file(theirs: str, images: Path) -> None:
    net = build_network("resnet18", 2, image_size=32).net
    torch.save(net.state_dict(), "start.pt")
    line = ["--config", theirs, "--data-dir", str(images), *TINY]
    assert values(parse([*line, "--weights", "start.pt"]), "model.pretrained", "model.weights") == [False, "start.pt"]
    assert fit([*line, "--weights", "start.pt", "--run-dir", "a"]) == 0
    assert fit([*line, "--no-pretrained", "--run-dir", "b"]) == 0
    assert "pretrained: false" in RunDir(Path("b")).recipe.read_text()


def test_the_stronger_word_says_where_a_network_starts(here: Path) -> None:
    (here / "start.pt").touch()
    (here / "a.yaml").write_text("model: {weights: start.pt}\n")
    assert values(parse(["--config", "a.yaml", "--pretrained"]), "model.pretrained", "model.weights") == [True, None]
    with pytest.raises(ConfigError, match="--pretrained asks for other weights"):
        parse(["--weights", "start.pt", "--pretrained"])


def test_pretrained_ends_with_one_sentence_where_nothing_can_be_had(
    theirs: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ModelError, match=r"Pretrained weights of resnet18 cannot be had: .*--no-pretrained"):
        fit(["--config", theirs, "--data-dir", str(images), *TINY])
