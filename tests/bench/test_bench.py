"""bench/: rounds are interleaved, bad runs are thrown away, lines hold what they must, and the page is theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"

sys.path[:0] = [str(BENCH), str(ROOT / "scripts")]
import environments  # noqa: E402
import goals  # noqa: E402
import gpu  # noqa: E402
import harness  # noqa: E402
import lines  # noqa: E402
import performance  # noqa: E402
import processes  # noqa: E402
import run  # noqa: E402
import to_accuracy  # noqa: E402

TOY = f"""
import json, os, subprocess, sys
sys.path.insert(0, {str(BENCH / "rivals")!r})
from turns import Turns

options = json.loads(sys.argv[1])
with open("starts", "a+") as file:
    file.write("x")
    number = file.tell()
if options.get("dies") == "start":
    raise SystemExit("cannot start")
turns = Turns()
for epoch in range(options["epochs"]):
    turns.wait()
    if options.get("dies") == "turn" and epoch == 2:
        raise SystemExit("lost its way")
    with open("turns", "a") as file:
        file.write(options["name"] + os.environ["OMP_NUM_THREADS"] + " ")
    if options.get("burns"):
        burn = "import time\\nwhile time.process_time() < 0.1: pass"
        subprocess.run([sys.executable, "-c", burn], check=True)
    rate = options["rate"] * (1 + options.get("drift", 0) * number)
    turns.report(rate, 64)
    print("libraries may print")
turns.finish(options.get("parameters", 10), options.get("accuracy"))
"""


def context(tmp_path: Path, **settings: Any) -> harness.Context:
    (tmp_path / "toy.py").write_text(TOY)
    return harness.Context(tmp_path, tmp_path, rounds=settings.pop("rounds", 2), threads=2, **settings)


def bench(*arms: dict[str, Any], **settings: Any) -> harness.Bench:
    def made(context: harness.Context) -> list[harness.Arm]:
        return [
            harness.Arm(arm["name"], (str(context.work / "toy.py"), json.dumps({**arm, "epochs": context.epochs})))
            for arm in arms
        ]

    return harness.Bench("toy", "A toy", made, **settings)


def pick(found: list[lines.Line], arm: str, figure: str = "samples_per_s") -> lines.Line:
    return next(line for line in found if line["arm"] == arm and line["figure"] == figure)


A, B = {"name": "a", "rate": 100}, {"name": "b", "rate": 50}


def test_rounds_are_interleaved_and_every_arm_has_the_same_threads(tmp_path: Path) -> None:
    harness.measure(bench(A, B, threads=1), context(tmp_path, rounds=3))
    turns = (tmp_path / "turns").read_text().split()
    assert turns[:3] == ["a1", "b1", "a1"]  # cold, while each arm is started
    assert turns[3:12] == ["a1", "b1", "a1"] * 3
    assert len(turns) == 15  # and the last epoch of each


def test_a_line_holds_figure_ratio_and_facts(tmp_path: Path) -> None:
    found = harness.measure(bench(A, B), context(tmp_path))
    line = pick(found, "b")
    assert line["median"] == 50
    assert line["values"] == [50, 50]
    assert (line["base"], line["ratio"], line["ratio_min"], line["ratio_max"]) == ("a", 2, 2, 2)
    assert (line["aa_ratio"], line["thrown_away"], line["unlike"]) == (1, False, [])
    assert (line["bench"], line["phase"], line["unit"], line["rounds"]) == ("toy", "warm", "samples/s", 2)
    assert (line["threads"], line["num_parameters"], line["num_samples"]) == (2, 10, 64)
    assert {"date", "run", "load_before", "command", "arm_command"} <= line.keys()
    assert {"cpu", "cores", "versions"} <= line["machine"].keys()
    assert {"python", "torch", "lightning"} <= line["machine"]["versions"].keys()
    assert found[0] == pick(found, "a")
    cold = [pick(found, "a", name) for name in ("ready_s", "first_turn_s", "peak_mib")]
    assert all(line["phase"] == "cold" and len(line["values"]) == 1 for line in cold)


@pytest.mark.slow
def test_cpu_time_counts_children(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("CPU time of a turn comes from /proc")
    found = harness.measure(bench({**A, "burns": True}, B), context(tmp_path))
    burning, idle = (pick(found, name, "cpu_us_per_sample")["median"] for name in "ab")
    assert burning * 64 >= 0.08e6 > idle * 64


def test_a_run_whose_same_arm_differs_is_thrown_away_and_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = harness.measure(bench({**A, "drift": 0.1}, B), context(tmp_path))
    assert all(line["thrown_away"] for line in found)
    assert len((tmp_path / "starts").read_text()) == 6
    said = capsys.readouterr().err
    assert said.count("thrown away") == 2
    assert said.count("once more") == 1


def test_three_percent_are_allowed(tmp_path: Path) -> None:
    found = harness.measure(bench({**A, "drift": 0.01}, B), context(tmp_path))
    assert 0.97 < found[0]["aa_ratio"] < 1
    assert not found[0]["thrown_away"]


@pytest.mark.parametrize(("dies", "word"), [("start", "cannot start"), ("turn", "lost its way")])
def test_a_rival_that_fails_is_not_measured_and_says_why(tmp_path: Path, dies: str, word: str) -> None:
    found = harness.measure(bench(A, {**B, "dies": dies}), context(tmp_path))
    assert word in pick(found, "b")["not_measured"]
    assert pick(found, "a")["median"] == 100
    assert [line["figure"] for line in found if line["arm"] == "b"] == ["samples_per_s"]
    assert "not measured: " in run.table("A toy", found)


@pytest.mark.parametrize("dies", ["start", "turn"])
def test_ours_must_not_fail(tmp_path: Path, dies: str) -> None:
    toy = bench({**A, "dies": dies}, B)
    with pytest.raises(harness.ArmFailed, match="exit code 1"):
        harness.measure(toy, context(tmp_path))
    assert not run.run(toy, context(tmp_path), tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


def test_other_work_is_not_comparable(tmp_path: Path) -> None:
    arms = [{**A, "accuracy": 0.90}, {**B, "accuracy": 0.91}, {**B, "name": "c", "accuracy": 0.93, "parameters": 11}]
    found = harness.measure(bench(*arms, accuracy_within=0.02), context(tmp_path))
    assert pick(found, "b")["unlike"] == []
    assert pick(found, "c")["unlike"] == ["num_parameters 11 instead of 10", "accuracy 0.9300 instead of 0.9000 ± 0.02"]


def test_a_command_may_run_anew_in_each_round(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text('print(\'@{"event": "end", "wall_s": 2.0}\')\n')
    figures = (harness.Figure("wall_s", "s"), harness.Figure("cpu_s", "s of CPU"))
    arms = [
        harness.Arm("ours", (str(tmp_path / "once.py"),), takes_turns=False),
        harness.Arm("silent", ("-c", "pass"), takes_turns=False),
    ]
    toy = harness.Bench("toy", "A toy", lambda _: arms, figures)
    found = harness.measure(toy, context(tmp_path))
    assert pick(found, "ours", "wall_s")["values"] == [2.0, 2.0]
    assert pick(found, "silent", "wall_s")["median"] > 0
    assert pick(found, "silent", "cpu_s")["median"] > 0


def test_arms_may_share_one_processor(tmp_path: Path) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system cannot bind a process")
    (tmp_path / "cpus.py").write_text(
        'import json, os\nprint("@" + json.dumps({"event": "end", "wall_s": len(os.sched_getaffinity(0))}))\n'
    )
    arms = [harness.Arm("ours", (str(tmp_path / "cpus.py"),), takes_turns=False)]
    before = os.sched_getaffinity(0)
    for on_one_cpu, count in ((True, 1), (False, len(before))):
        toy = harness.Bench("toy", "A toy", lambda _: arms, (harness.Figure("wall_s", "s"),), on_one_cpu=on_one_cpu)
        found = harness.measure(toy, context(tmp_path))
        assert pick(found, "ours", "wall_s")["values"] == [count, count]
    assert os.sched_getaffinity(0) == before


def test_nothing_stays_behind(tmp_path: Path) -> None:
    arm = bench(A).arms(context(tmp_path))[0]
    with processes.TurnTaker(arm, sys.executable, 1, tmp_path) as process:
        child = process.child
        assert child.poll() is None
    assert child.returncode is not None


def test_a_bench_may_measure_by_itself(tmp_path: Path) -> None:
    def curve(_: harness.Context) -> list[lines.Line]:
        return [lines.figure_line("ours", "bytes", "B", [3, 1, 2], num_samples=7)]

    (line,) = harness.measure(harness.Bench("curve", "A curve", measure=curve), context(tmp_path))
    assert (line["bench"], line["arm"], line["median"], line["num_samples"]) == ("curve", "ours", 2, 7)
    assert not line["thrown_away"]
    assert "bytes" in run.table("A curve", [line])


def test_new_lines_replace_old_ones_unless_they_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "results" / "x.jsonl"
    good, bad, other = ({"bench": "a", "thrown_away": False, "n": n} for n in (1, 2, 3))
    bad["thrown_away"], other["bench"] = True, "b"
    assert lines.keep(path, [bad])
    assert lines.keep(path, [good])
    assert lines.keep(path, [other])
    assert not lines.keep(path, [bad])
    assert lines.read(path) == [good, other]
    assert list(path.parent.iterdir()) == [path]


# ---- names -----------------------------------------------------------------------------------


def test_every_bench_is_what_its_name_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in run.BENCHES:
        assert run.load(name).name == name
    assert {name: one.name for name, one in gpu.BENCHES.items()} == {name: name for name in gpu.BENCHES}
    monkeypatch.setattr(sys, "argv", ["run.py", "--list"])
    assert run.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(run.BENCHES)
    with pytest.raises(SystemExit, match="there is no bench 'smal'"):
        run.load("smal")


def test_environments_have_pinned_versions_and_our_torch(tmp_path: Path) -> None:
    from importlib.metadata import version

    for name in environments.ENVIRONMENTS:
        assert f"torch=={version('torch').partition('+')[0]}" in environments.requirements(name)
    assert environments.python_of(None) == sys.executable
    with pytest.raises(environments.NotInstalled, match="there is no environment 'fastay'"):
        environments.python_of("fastay", tmp_path)


# ---- the page --------------------------------------------------------------------------------


def written(folder: Path, **more: Any) -> None:
    """Lines of small_mlp: ours 100, plain Lightning 40 and 80, so a ratio of 1.875."""
    line = {
        **{"bench": "small_mlp", "command": "python bench/run.py small_mlp", "rounds": 2, "threads": 1},
        **{"date": "2026-01-01", "load_before": 0.1, "thrown_away": False, "aa_ratio": 1.0, "unit": "samples/s"},
        **{"figure": "samples_per_s", "phase": "warm", "unlike": []},
        "machine": {"cpu": "A fast one", "cores": 2, "versions": {"torch": "2.0"}},
    }
    found = [
        {**line, "arm": goals.OURS, "values": [100, 100], "median": 100, **more},
        {**line, "arm": "plain Lightning", "values": [40, 80], "median": 60},
        {**line, "arm": "scikit-learn", "not_measured": "pip: no such version", "environment": ["x==1", "y==2"]},
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))


def row(text: str, key: str) -> str:
    goal = next(goal for section in goals.SECTIONS.values() for goal in section if goal.key == key)
    return next(line for line in text.splitlines() if line.startswith(f"| {goal.text} |"))


def test_goals_are_judged_from_the_rounds(tmp_path: Path) -> None:
    (tmp_path / "head.md").write_text("# Performance\n")
    (tmp_path / "small-eager.md").write_text("A hook takes all the time.\n")
    written(tmp_path)
    text = performance.page(tmp_path, tmp_path)
    assert "| at least 2.2× | 1.88× (1.25 to 2.5) | **no** | 1 | `python bench/run.py small_mlp` |" in row(
        text, "small-eager"
    )
    assert "A hook takes all the time." in text
    assert "this arm was not there" in row(text, "small-steps-lightning")
    assert performance.NOT_YET in row(text, "help")
    assert "not measured: pip: no such version" in text
    assert "scikit-learn: x==1, y==2." in text
    assert "1. A fast one, 2 cores; torch 2.0" in text
    assert performance.without_note(tmp_path, tmp_path) == []
    (tmp_path / "small-eager.md").unlink()
    assert performance.without_note(tmp_path, tmp_path) == ["small-eager"]


@pytest.mark.parametrize(
    ("more", "word", "reached"),
    [
        ({"values": [200, 200], "median": 200}, "3.75×", "| yes |"),
        ({"thrown_away": True, "aa_ratio": 1.06}, "thrown away (A/A 1.060)", "|  |"),
        ({"values": [200, 200], "unlike": ["accuracy 0.1"]}, "not comparable: accuracy 0.1", "|  |"),
    ],
)
def test_only_good_runs_reach_a_goal(tmp_path: Path, more: dict[str, Any], word: str, reached: str) -> None:
    (tmp_path / "head.md").write_text("# Performance\n")
    written(tmp_path, **more)
    found = row(performance.page(tmp_path, tmp_path), "small-eager")
    assert word in found
    assert reached in found


def test_keys_of_goals_are_unique_and_every_note_has_one() -> None:
    keys = [goal.key for section in goals.SECTIONS.values() for goal in section]
    assert len(set(keys)) == len(keys)
    assert {path.stem for path in (BENCH / "notes").glob("*.md")} <= {"head", *keys}


def test_the_page_is_what_the_lines_say() -> None:
    is_current = performance.PAGE.read_text() == performance.page()
    assert is_current, "out of date; run: .venv/bin/python scripts/performance.py"


def test_every_goal_that_is_not_reached_has_a_note() -> None:
    missing = performance.without_note()
    assert not missing, f"write what stands in the way: {', '.join(f'bench/notes/{key}.md' for key in missing)}"


# ---- does it run at all ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_bench_of_hours_goes_on_from_its_rows(shared_data: Path, tmp_path: Path) -> None:
    settings = harness.Context(shared_data, tmp_path, size="tiny", rows_file=tmp_path / "rows.jsonl")

    def rows(seeds: range) -> list[dict[str, Any]]:
        return to_accuracy.compare(to_accuracy.MNIST[0], settings, 1, seeds, 2, is_alone=True)

    first = rows(range(1))
    again = rows(range(2))
    assert [row["seed"] for row in again] == [0, 1]
    assert again[0] == first[0]  # with its times to the hundredth of a second
    assert lines.read(tmp_path / "rows.jsonl") == again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "names"),
    [
        (
            "run.py",
            [
                "small_mlp",
                "mnist_convnet",
                "watching_cifar10",
                "help",
                "time_to_accuracy",
                "prune",
                "ensemble",
                "growth",
                "many_epochs",
                "watch_mnist",
                "watch_resnet18",
                "scale",
                "scaling",
                "studio",
            ],
        ),
        ("gpu.py", list(gpu.BENCHES)),
    ],
)
def test_benches_run_at_a_tiny_size(shared_data: Path, tmp_path: Path, script: str, names: list[str]) -> None:
    out = tmp_path / "lines.jsonl"
    command = [sys.executable, str(BENCH / script), *names, "--size", "tiny", "--rounds", "1", "--threads", "1"]
    command += ["--data", str(shared_data), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = lines.read(out)
    assert {line["bench"] for line in found} == set(names), done.stderr
    assert not [line for line in found if "not_measured" in line]
    parameters = {(line["bench"], line["num_parameters"]) for line in found if line.get("num_parameters")}
    assert len(parameters) == len({bench for bench, _ in parameters})
