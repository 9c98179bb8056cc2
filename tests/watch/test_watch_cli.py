"""Scope on LightningCLI's command line and in its YAML: its arguments are those of the class that people read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from lightning.pytorch.cli import LightningCLI
from watched import NUM_TRAIN, NUM_VAL, Module, loaders, visits

from litscope import watch
from litscope.data.manifest import Manifest

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Lightning 2.6 on newer versions of jsonargparse
]

QUIET = (
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


class Tutorial(Module):
    """A command line's arguments are those of the constructor."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()


class Data(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return loaders()[1]


def script(monkeypatch: pytest.MonkeyPatch, *words: str, **options: Any) -> None:
    """What `python train.py fit ...` does."""
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--seed_everything=false", *words, *QUIET])
    LightningCLI(Tutorial, Data, **options)


def test_scope_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = ("--trainer.callbacks+=litscope.watch.Scope", f"--trainer.callbacks.run_dir={tmp_path / 'run'}")
    script(monkeypatch, *scope, f"--trainer.default_root_dir={tmp_path}")
    assert visits(tmp_path / "run") == {
        (0, "train", "train"): (NUM_TRAIN, NUM_TRAIN),
        (0, "val", "eval"): (NUM_VAL, NUM_VAL),
    }
    assert "class_path: litscope.watch.Scope" in (tmp_path / "config.yaml").read_text(), "as the next run takes it"


CONFIG = """
trainer:
  callbacks:
    - class_path: litscope.watch.Scope
      init_args:
        run_dir: {folder}/run
        class_names: [first, second, third]
        log_every_n_steps: 5
"""


def test_scope_in_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.in.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    script(monkeypatch, "--config", str(config), save_config_callback=None)
    assert Manifest.read(tmp_path / "run" / "manifest.parquet").classes == ("first", "second", "third")
    assert len((tmp_path / "run" / "metrics" / "steps.jsonl").read_text().splitlines()) == 2


def test_scope_on_the_command_line_of_pytorch_lightning(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.cli import LightningArgumentParser

    assert issubclass(watch.Scope, other.Callback), "though litscope was imported before it"
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(other.Trainer, "trainer")
    scope = ["--trainer.callbacks+=litscope.watch.Scope", f"--trainer.callbacks.run_dir={tmp_path / 'run'}"]
    made = parser.instantiate_classes(parser.parse_args([*scope, *QUIET]))
    assert any(isinstance(callback, watch.Scope) for callback in made.trainer.callbacks)
