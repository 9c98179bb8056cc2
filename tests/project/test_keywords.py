"""Keywords have types that editors and type checkers know, from the tables of the flags."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import litscope
from litscope.config.fields import by_name, fields
from litscope.config.flags import recipe_from_keywords
from litscope.config.keywords import FitKeywords
from litscope.data.keywords import DataKeywords
from litscope.data.settings import DataSettings
from litscope.errors import ConfigError
from litscope.models.keywords import ClassifierKeywords
from litscope.models.settings import ClassifierSettings
from litscope.settings import all_names

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import keywords  # noqa: E402 - the script that writes them


def test_the_files_are_current() -> None:
    stale = [str(path) for path, text in keywords.modules().items() if path.read_text() != text]
    assert not stale, "out of date; run: .venv/bin/python scripts/keywords.py"


def test_every_keyword_is_accepted_and_every_accepted_one_is_there() -> None:
    known = set(FitKeywords.__annotations__)
    assert known >= {*by_name(), "config", "preset"} - {"dataset"}
    for name in known - {*by_name(), "config", "preset"}:
        with pytest.raises(ConfigError, match="is not a keyword"):  # a no_ keyword takes a truth value alone
            recipe_from_keywords(**{name: "x"})
        recipe_from_keywords(**{name: True})
    assert set(ClassifierKeywords.__annotations__) == set(all_names(ClassifierSettings)) - {"arch"}
    assert set(DataKeywords.__annotations__) >= set(all_names(DataSettings)) - {"dataset"}


@pytest.mark.parametrize("call", [litscope.fit, litscope.cv, litscope.tune, litscope.lr_find])
def test_a_signature_names_every_flag(call: Callable[..., Any]) -> None:
    shown = inspect.signature(call).parameters
    assert set(shown) >= {field.name for field in fields()}
    assert shown["lr"].annotation == float | None
    assert shown["save_top_k"].default == 1
    assert not [p for p in shown.values() if p.kind is inspect.Parameter.VAR_KEYWORD]


def test_the_package_says_that_it_is_typed() -> None:
    assert (files("litscope") / "py.typed").is_file()


RIGHT_AND_WRONG = """
import pathlib
import litscope
from torchmetrics.classification import MulticlassCohenKappa

litscope.fit("digits", lr=1e-3, learning_rate=1e-3, epochs=5, data_dir=pathlib.Path("x"), devices=2, precision=16)
litscope.fit("digits", no_cache=True, hidden=[16, 16], augment=False, metrics={"kappa": MulticlassCohenKappa(10)})
litscope.fit("digits", learning_rte=1e-3)  # wrong
litscope.fit("digits", lr="fast")  # wrong
litscope.fit("digits", scheduler="cosin")  # wrong
litscope.cv("digits", folds=3, epochs=2)
litscope.cv("digits", epoch=2)  # wrong
litscope.tune("digits", trials=2, arch="mlp")
litscope.tune("digits", trials=2, arch=3)  # wrong
litscope.lr_find("digits", num_sweeps=1, batch_size=8)
litscope.lr_find("digits", batch_size="8")  # wrong
litscope.Classifier("mlp", learning_rate=1e-3, compile_model=True)
litscope.Classifier("mlp", lr="fast")  # wrong
litscope.Classifier("mlp", dropout=0.1)  # wrong
litscope.ClassificationData("digits", data_root="x", persistent_workers=True, shuffle=True)
litscope.ClassificationData("digits", shuffle=False)  # wrong
litscope.ClassificationData("digits", batchsize=8)  # wrong
"""


@pytest.mark.slow
def test_mypy_sees_a_wrong_keyword_and_a_wrong_type(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(RIGHT_AND_WRONG)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(script)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    named = {
        int(line.split(":")[1]) for line in found.stdout.splitlines() if "script.py" in line and ": error:" in line
    }
    lines = RIGHT_AND_WRONG.split("\n")
    assert named == {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}, found.stdout
