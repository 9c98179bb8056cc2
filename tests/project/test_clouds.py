"""The recipes for hosted machines: read by those whose they are, and the commands in them by litscope."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from litscope.config.flags import parse

ROOT = Path(__file__).resolve().parents[2]
CLOUDS = ROOT / "recipes" / "clouds"


def recipe(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CLOUDS / name).read_text())
    return loaded


def test_every_recipe_is_explained() -> None:
    page = (ROOT / "docs" / "clouds.md").read_text()
    assert [path.name for path in CLOUDS.iterdir() if f"recipes/clouds/{path.name}" not in page] == []


@pytest.mark.parametrize("attempt", ["first", "after a loss"])
def test_the_job_of_skypilot_begins_and_goes_on(attempt: str, tmp_path: Path) -> None:
    """Its script is run as it stands, with paths of this test and a litscope that only reads its line."""
    task = recipe("skypilot.yaml")
    runs = tmp_path / "runs"
    (runs / "mine").mkdir(parents=True)
    if attempt != "first":
        (runs / "mine" / "recipe.yaml").write_text("data: {dataset: digits}\n")
    program = tmp_path / "litscope"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom litscope.config.flags import parse\nprint(*sys.argv[1:])\n"
        "assert sys.argv[1] == 'fit'\nparse(sys.argv[2:])\n"
    )
    program.chmod(0o755)
    place = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    given = {**task["envs"], "RUN": "mine"}
    script = task["run"].replace("/runs/", f"{runs}/")
    done = subprocess.run(["bash", "-e", "-c", script], env={**given, **place}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    begins = f"fit {given['DATASET']} --run-dir {runs}/mine --accelerator gpu --devices 8"
    goes_on = f"fit --resume {runs}/mine --devices 8"
    assert done.stdout.strip() == (begins if attempt == "first" else goes_on)


@pytest.mark.slow
def test_skypilot_reads_its_recipe(tmp_path: Path) -> None:
    """SKYPILOT_PYTHON may name the Python of an environment that has it: its requirements do not fit those of here."""
    python = os.environ.get("SKYPILOT_PYTHON", sys.executable)
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('sky') is None)"
    if subprocess.run([python, "-c", code], check=False).returncode != 0:
        pytest.skip("skypilot is not installed here; SKYPILOT_PYTHON may name a Python that has it")
    code = (
        "import sky, sys\ntask = sky.Task.from_yaml(sys.argv[1])\n(resources,) = task.resources\n"
        "print(resources.use_spot, resources.accelerators, *task.storage_mounts)"
    )
    words = [python, "-c", code, CLOUDS / "skypilot.yaml"]
    done = subprocess.run(words, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True {'A100': 8} /runs"


@pytest.mark.slow
def test_the_trainjob_is_one_of_kubeflows() -> None:
    """Its own models read it, and give it back whole: what they do not know would be missing."""
    from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob

    job = recipe("trainjob.yaml")
    read = TrainerV1alpha1TrainJob.from_dict(job)
    assert read is not None
    assert read.to_dict() == job


def test_the_trainjob_trains_as_many_processes_as_it_starts() -> None:
    trainer = recipe("trainjob.yaml")["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "-m", "litscope"]
    assert trainer["args"][0] == "fit"
    found = parse(trainer["args"][1:]).hardware
    assert (int(found.devices), int(found.num_nodes)) == (trainer["numProcPerNode"], trainer["numNodes"])
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == str(trainer["numProcPerNode"])


def test_the_notebook_is_one() -> None:
    import nbformat

    notebook = nbformat.read(CLOUDS / "hosted_gpu.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
def test_the_notebook_runs_without_its_install_cell(tmp_path: Path) -> None:
    import nbformat

    cells = nbformat.read(CLOUDS / "hosted_gpu.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    install = [cell for cell in code if "install" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in install] == ["%pip install -q litscope"]
    script = tmp_path / "cells.py"
    script.write_text("\n".join(cell.source for cell in code if cell not in install))
    place = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hosted.tar.gz").exists()
    assert (tmp_path / "runs" / "hosted" / "summary.json").exists()
