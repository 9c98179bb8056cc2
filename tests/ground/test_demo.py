"""The demo on a folder of photographs: from files to labels to look at and predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from forked import run_cli
from PIL import Image

from litscope.models.networks.packaged import packaged_file

installed = pytest.mark.skipif(
    packaged_file("tf_efficientnet_lite0") is None, reason="litscope[weights] is not installed"
)


def photographs(root: Path) -> Path:
    """Forty scenes of two kinds, bright sky above or below; one of each kind lies in the wrong folder."""
    draw = np.random.default_rng(0)
    for at in range(40):
        name = "above" if at % 2 else "below"
        pixels = draw.integers(0, 90, (64, 64, 3))
        pixels[slice(0, 32) if (name == "above") ^ (at in (4, 5)) else slice(32, 64)] += 150
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{at:02}.png")
    return root


@pytest.mark.slow
@installed
def test_from_a_folder_to_suspects_and_predictions(tmp_path: Path) -> None:
    photographs(tmp_path / "scenes")
    done = run_cli("demo", "--photographs", "scenes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.partition("may be wrong\n")[2].splitlines()[1:3]
    assert {row.split()[0] for row in rows} & {"below/04.png", "above/05.png"}
    assert "validation photographs that it is least sure of" in done.stdout
    assert "litscope predict runs/photographs new/*.jpg" in done.stdout
    recipe = (tmp_path / "runs/photographs/recipe.yaml").read_text()
    assert "finetune: head" in recipe
    assert json.loads((tmp_path / "runs/photographs/summary.json").read_text())["status"] == "finished"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = run_cli("demo", "--photographs", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not list((tmp_path / "runs").glob("*")), "no run is left"
