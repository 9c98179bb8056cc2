"""A site file is read as strictly as a recipe, and flags go over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from litscope.cluster import timelimit
from litscope.cluster.site import Site, find_site, read_site
from litscope.errors import ConfigError

DOCS = Path(__file__).resolve().parents[2] / "docs"


def site(folder: Path, text: str) -> Site:
    (folder / "site.yaml").write_text(text)
    return read_site(folder / "site.yaml")


def test_all_kinds_of_values_are_read(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        "time: 4:00:00\naccount: 007\ncpus-per-task: 4\nrequeue: false\nmodule: cuda\nenv: {A: 1e-3, B: no}\n"
        "sbatch: {constraint: a100, exclusive: true}\ngpu_request: gres\n",
    )
    assert (found.time, found.account, found.cpus_per_task, found.requeue) == ("4:00:00", "007", 4, False)
    assert found.modules == ["cuda"]
    assert found.env == {"A": "1e-3", "B": "no"}, "as they are written"
    assert found.sbatch == {"constraint": "a100", "exclusive": None}
    assert found.partition is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acount: x", ["line 1", "'acount'", "Did you mean 'account'"]),
        ("time: soon", ["line 1", "time soon", "4:00:00"]),
        ("time: 0", ["needs some time"]),
        ("cpus_per_task: many", ["whole number"]),
        ("cpus_per_task: 0", ["1 or more"]),
        ("mem: big", ["64G"]),
        ("requeue: sometimes", ["true or false"]),
        ("gpu_request: grse", ["Did you mean 'gres'"]),
        ("env: [A]", ["NAME: value"]),
        ("env: {1A: x}", ["no name of an environment variable"]),
        ("\nmodules: {a: b}", ["line 2", "list"]),
        ("modules: [a]\nmodule: b", ["line 2", "another name of modules"]),
        ("partition: [a, b]", ["single value"]),
        ("sbatch: {nodes: 2}", ["for nodes there is --nodes"]),
        ("sbatch: {ntasks-per-node: 2}", ["--devices-per-node"]),
        ("sbatch: {output: x}", ["set by litscope"]),
        ("sbatch: {--hold: true}", ["without dashes"]),
        ("setup: ['a', \"b\\nc\"]", ["not one line"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        site(tmp_path, text)
    for word in [str(tmp_path / "site.yaml"), *words]:
        assert word in str(refused.value)


def test_flags_go_over_the_file_and_lists_are_added() -> None:
    habits = Site().over({"partition": "a", "modules": ["x"], "env": {"A": "1", "B": "1"}, "sbatch": {"hold": None}})
    job = habits.over({"partition": "b", "modules": ["y"], "env": {"B": "2"}})
    assert (job.partition, job.modules, job.env) == ("b", ["x", "y"], {"A": "1", "B": "2"})
    assert habits.modules == ["x"]
    assert job.sbatch == {"hold": None}
    with pytest.raises(ConfigError, match=r"--module .*not one line"):
        habits.over({"modules": [""]})


def test_the_file_is_that_of_the_flag_then_of_the_variable_then_of_the_home(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flag", "variable", "home"):
        file = in_tmp / (f"{name}.yaml" if name != "home" else "litscope/site.yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"partition: {name}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_tmp))
    monkeypatch.delenv("LITSCOPE_SITE", raising=False)
    assert find_site(None)[0].partition == "home"
    monkeypatch.setenv("LITSCOPE_SITE", "variable.yaml")
    assert find_site(None)[0].partition == "variable"
    assert find_site("flag.yaml")[0].partition == "flag"
    assert find_site("none") == (Site(), None)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        find_site("missing.yaml")


def test_every_key_is_in_the_docs() -> None:
    text = (DOCS / "slurm.md").read_text()
    assert [field.name for field in Site.fields() if f"| `{field.name}`" not in text] == []


@pytest.mark.parametrize(
    ("text", "length", "words"),
    [
        ("30", 1800, "30 min"),
        ("4:00", 240, "4 min"),
        ("4:00:30", 14_430, "4 h 30 s"),
        ("1-12", 129_600, "1 d 12 h"),
        ("2-0:30", 174_600, "2 d 30 min"),
        ("1-2:3:4", 93_784, "1 d 2 h 3 min 4 s"),
        ("UNLIMITED", None, "no end"),
    ],
)
def test_time_limits_are_those_of_slurm(text: str, length: int | None, words: str) -> None:
    assert timelimit.seconds_of(text) == length
    assert timelimit.in_words(text) == words
    assert timelimit.refusal(text) is None


@pytest.mark.parametrize("text", ["4h", "1:2:3:4", "", "-5", "1-", "0"])
def test_other_times_are_refused(text: str) -> None:
    assert timelimit.refusal(text) is not None
