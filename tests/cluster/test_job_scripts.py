"""job.sbatch: whole, for four kinds of clusters; and safe, whatever stands in the words of a command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from litscope.cluster.program import Shape, fit_program, fit_shape, own_program
from litscope.cluster.quoting import directive, expanding, file_pattern
from litscope.cluster.script import Array, job_script
from litscope.cluster.site import Site, read_site
from litscope.config.flags import parse
from litscope.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SITES = ROOT / "recipes" / "sites"
GOLDEN = ROOT / "tests" / "golden" / "jobs"
HERE = Path("/home/ada/project")

CASES = {
    "cpu": (None, 2, "digits --epochs 30"),
    "gres": (None, None, "digits --devices 4"),
    "modules": (2, 4, "digits --batch-size 512 --run-dir runs/large"),
    "apptainer": (None, 2, "digits --name small --accelerator gpu"),
}
"""Name of a site -> nodes and devices of a job there, and the words after `fit`."""


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_cluster_gets_its_script(name: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change that is meant: `LITSCOPE_WRITE_GOLDEN=1 pytest tests/cluster/test_job_scripts.py`."""
    monkeypatch.setattr(sys, "executable", "/home/ada/venv/bin/python")
    nodes, devices, words = CASES[name]
    site, recipe = read_site(SITES / f"{name}.yaml"), parse(words.split())
    shape = fit_shape(recipe, nodes, devices)
    program = fit_program(recipe, words.split(), shape, has_gpus=site.gpu_request != "none", is_dry=True)
    asked = ["litscope", "launch", "slurm", "--site", f"{name}.yaml", "--", "fit", *words.split()]
    found = job_script(program, shape, site, asked, HERE)
    golden = GOLDEN / f"{name}.sbatch"
    if os.environ.get("LITSCOPE_WRITE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()
    assert list(in_tmp.iterdir()) == [], "a dry run makes nothing"


def test_every_site_of_the_recipes_has_a_golden_script() -> None:
    assert {path.stem for path in SITES.glob("*.yaml")} == set(CASES)


HOSTILE = ["a b", "it's", '"x"', "$HOME", "`id`", "a\nb", "#c", "back\\slash", "*", "", "-n", "é", "%j", ";"]


def test_words_reach_the_command_as_they_are(tmp_path: Path) -> None:
    """The script is run by a shell, with an srun that prints what it is given."""
    (tmp_path / "srun").write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done; printf '%s\\0' \"$ODD\"\n")
    (tmp_path / "srun").chmod(0o755)
    program = own_program(HOSTILE, str(tmp_path / "job"), has_gpus=False, is_dry=True)
    site = Site().over({"env": {"ODD": "v'\n$x"}})
    text = job_script(program, Shape(1, 1), site, ["litscope", "launch", "slurm", "--", *HOSTILE], tmp_path)
    script = tmp_path / "job.sbatch"
    script.write_text(text)
    place = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", script], env=place, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == ["--kill-on-bad-exit=1", *HOSTILE, "v'\n$x"]
    assert sum(line.startswith("#SBATCH") for line in text.splitlines()) == 7, "no word has become a line of its own"


@pytest.mark.parametrize("name", [*CASES, "array"])
def test_a_shell_reads_every_script(name: str, in_tmp: Path) -> None:
    site = Site() if name == "array" else read_site(SITES / f"{name}.yaml")
    program = own_program(["python", "train.py", *HOSTILE], None, has_gpus=True, is_dry=True)
    array = Array(4, 2) if name == "array" else None
    text = job_script(program, Shape(2, 2), site, ["litscope"], in_tmp, array)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert ("#SBATCH --array=1-4%2" in text) == (name == "array")


def test_a_script_of_ones_own_is_told_its_rank_and_where_to_meet(in_tmp: Path) -> None:
    program = own_program(["python", "train.py"], None, has_gpus=False, is_dry=True)
    text = job_script(program, Shape(2, 1), Site(), ["litscope"], in_tmp)
    assert "RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS" in text
    assert "MASTER_ADDR" in text
    assert "MASTER_PORT" in text
    assert "--signal" not in text, "a script that does not know USR1 would end by it"
    alone = job_script(program, Shape(1, 1), Site(), ["litscope"], in_tmp)
    assert "MASTER_ADDR" not in alone


def test_the_signal_is_the_one_that_the_training_waits_for() -> None:
    words = ["digits", "--run-dir", "x", "--signal", "USR2"]
    program = fit_program(parse(words), words, Shape(1, 1), has_gpus=False, is_dry=True)
    assert "#SBATCH --signal=USR2@120\n" in job_script(program, Shape(1, 1), Site(), ["litscope"], HERE)
    for time, lead in (("4:00:00", 120), ("2", 30), ("UNLIMITED", 120)):  # in a short job time to train is left
        script = job_script(program, Shape(1, 1), Site(time=time), ["litscope"], HERE)
        assert f"#SBATCH --signal=USR2@{lead}\n" in script


@pytest.mark.parametrize(("code", "is_requeued"), [(75, True), (0, False), (3, False)])
def test_a_training_in_a_container_has_its_job_requeued_by_the_script(
    code: int, is_requeued: bool, tmp_path: Path
) -> None:
    for name, text in (("srun", f"exit {code}"), ("scontrol", f'echo "$*" >> {tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    words = ["digits", "--run-dir", "x"]
    program = fit_program(parse(words), words, Shape(1, 1), has_gpus=False, is_dry=True)
    text = job_script(program, Shape(1, 1), Site().over({"container": "x.sif"}), ["litscope"], HERE)
    place = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "12"}
    assert subprocess.run(["bash"], input=text, text=True, env=place, check=False).returncode == code
    assert (tmp_path / "asked").exists() == is_requeued
    if is_requeued:
        assert (tmp_path / "asked").read_text() == "requeue 12\n"
    kept = job_script(program, Shape(1, 1), Site().over({"container": "x.sif", "requeue": False}), ["litscope"], HERE)
    assert "scontrol" not in kept


def test_options_of_sbatch_go_over_those_of_litscope() -> None:
    recipe = parse(["digits", "--run-dir", "x"])
    program = fit_program(recipe, ["digits", "--run-dir", "x"], Shape(1, 1), has_gpus=False, is_dry=True)
    site = Site().over({"sbatch": {"signal": "USR1@300", "hold": None}, "requeue": False})
    lines = job_script(program, Shape(1, 1), site, ["litscope"], HERE).splitlines()
    assert [line for line in lines if "signal" in line] == ["#SBATCH --signal=USR1@300"]
    assert "#SBATCH --hold" in lines
    assert "#SBATCH --no-requeue" in lines


def test_values_of_directives_are_quoted_where_sbatch_would_take_them_apart() -> None:
    assert directive("chdir", "/a b/#c\"d'") == '#SBATCH --chdir="/a b/#c\\"d\'"'
    assert directive("time", "4:00:00") == "#SBATCH --time=4:00:00"
    assert file_pattern("/a/%j b") == "/a/%%j b"
    with pytest.raises(ConfigError, match="no line break"):
        directive("comment", "a\nb")
    with pytest.raises(ConfigError, match="backslash"):
        file_pattern("a\\b")


@pytest.mark.parametrize("text", ["/scratch/$HOME/a b", '${HOME}"x"', "$(id) `id` \\ $", "it's"])
def test_only_variables_are_expanded(text: str) -> None:
    shown = subprocess.run(
        ["bash", "-c", f"printf %s {expanding(text)}"], env={"HOME": "h h"}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == text.replace("${HOME}", "h h").replace("$HOME", "h h")


def test_the_head_of_the_script_repeats_the_command(in_tmp: Path) -> None:
    program = own_program(["python", "a b.py"], None, has_gpus=False, is_dry=True)
    asked = ["litscope", "launch", "slurm", "--", "python", "a b.py"]
    second = job_script(program, Shape(1, 1), Site(), asked, in_tmp).splitlines()[1]
    assert shlex.split(second.removeprefix("# ")) == asked
