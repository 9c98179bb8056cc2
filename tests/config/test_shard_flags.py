"""How shards are named: flags, YAML and keywords, what goes together, and that no secret is in the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from litscope import addresses
from litscope.config.flags import parse, recipe_from_keywords
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError

URLS = "s3://bucket/train-{0000..0099}.tar"
EXAMPLE = f"""
data: {{use_webdataset: true, train_urls: "{URLS}", num_workers: 16}}
model: {{arch: vit_b_16, compile_model: true}}
training: {{epochs: 50, batch_size: 128}}
hardware: {{devices: 4, accelerator: gpu, precision: bf16-mixed, strategy: ddp}}
"""


@pytest.mark.flag("use_webdataset", "train_urls")
def test_the_file_of_the_page_gives_its_values(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXAMPLE)
    recipe = parse(["--config", str(tmp_path / "x.yaml")])
    data, training, hardware = recipe.data, recipe.training, recipe.hardware
    assert (data.use_webdataset, data.train_urls, data.num_workers, data.batch_size) == (True, URLS, 16, 128)
    assert (recipe.model.arch, recipe.model.compile, training.epochs) == ("vit_b_16", True, 50)
    assert (hardware.devices, hardware.accelerator, hardware.precision) == ("4", "gpu", "bf16-mixed")
    assert hardware.strategy == "ddp"
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert parse(["--config", str(tmp_path / "again.yaml")]) == recipe


@pytest.mark.flag("val_urls", "test_urls")
def test_several_addresses_and_their_splits() -> None:
    recipe = recipe_from_keywords(train_urls=[URLS, "gs://b/x.tar"], val_urls="v.tar", test_urls="t.tar")
    assert recipe.data.use_webdataset
    assert recipe.data.train_urls == f"{URLS}::gs://b/x.tar"
    assert recipe.data.origin == f"train={URLS}::gs://b/x.tar::val=v.tar::test=t.tar"
    assert parse(["digits"]).data.origin == "digits"


def test_data_that_are_named_above_take_the_place_of_those_below(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXAMPLE)
    other = parse(["--config", str(tmp_path / "x.yaml"), "--dataset", "digits"])
    assert (other.data.origin, other.data.use_webdataset) == ("digits", False)
    (tmp_path / "y.yaml").write_text("data: {dataset: digits}")
    assert parse(["--config", str(tmp_path / "y.yaml"), "--train-urls", URLS]).data.origin == f"train={URLS}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--val-urls", "v.tar"], "--val-urls v.tar: there are no --train-urls"),
        (["digits", "--train-urls", "x.tar"], "--dataset digits names the data too"),
        (["--use-webdataset"], "say which shards"),
        (["--train-urls", "x.tar", "--no-use-webdataset"], "--no-use-webdataset says that there are none"),
    ],
)
def test_what_does_not_go_together(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(words)


def test_no_secret_is_in_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(addresses.VARIABLE, "{}")
    recipe = parse(["--train-urls", "https://me:abc123@host/{0..3}.tar?sig=abc123"])
    assert recipe.data.train_urls == "https://***@host/{0..3}.tar?***"
    assert "abc123" not in dump(recipe)
    assert addresses.revealed(recipe.data.train_urls) == "https://me:abc123@host/{0..3}.tar?sig=abc123"
