"""The exercises: solutions are right, skeletons say what is missing, and wrong answers are told from right ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = ROOT / "examples" / "cluster" / "exercises"
SOLUTIONS = sorted(EXERCISES.glob("*_solution.py"))

sys.path.insert(0, str(ROOT / "scripts"))
import skeletons  # noqa: E402 - the script that writes the skeletons

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning"),
]


def names(files: list[Path]) -> list[str]:
    return [file.stem.rpartition("_")[0] for file in files]


def run(text: str, data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the text of an exercise here, and return what it printed."""
    program = ModuleType("exercise")
    sys.modules["exercise"] = program  # where a dataclass looks for its annotations
    exec(compile(text, "exercise.py", "exec"), program.__dict__)
    words = ["--data", str(data / "mnist"), "--limit-batches", "20"] if "def idx(" in text else []
    program.main(*([words] if "main(words" in text else []))
    return capsys.readouterr().out


def test_skeletons_are_current() -> None:
    pages = skeletons.pages()
    assert sorted(EXERCISES.glob("*_skeleton.py")) == sorted(pages)
    late = [page.name for page, text in pages.items() if page.read_text() != text]
    assert not late, f"{', '.join(late)}: out of date; run: .venv/bin/python scripts/skeletons.py"


def test_the_parts_of_an_exercise_are_in_order_and_in_both_files() -> None:
    for number, file in enumerate(SOLUTIONS, start=1):
        assert file.name.startswith(f"{number:02}_")
        parts = re.findall(r"# Yours \((\w+)\)", file.read_text())
        assert parts == [f"{number}{'abcdefgh'[place]}" for place in range(len(parts))]
        left = file.with_name(file.name.replace("solution", "skeleton")).read_text()
        assert re.findall(r'raise NotImplementedError\("(\w+) is yours to write"\)', left) == parts
        assert "# End" not in left


@pytest.mark.thorough
@pytest.mark.parametrize(
    "file", sorted(SOLUTIONS, key=lambda file: "job_script" not in file.name), ids=lambda f: f.stem
)
def test_a_solution_is_right_and_its_skeleton_says_what_is_missing(
    file: Path, in_tmp: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotImplementedError, match=rf"^{int(file.name[:2])}\w is yours to write$"):
        run(skeletons.skeleton(file.read_text()), shared_data, capsys)
    assert "right: " in run(file.read_text(), shared_data, capsys)


WRONG = {  # part: what is right, and what somebody may write
    "7a": ("--ntasks-per-node={job.devices_per_node}", "--ntasks-per-node=1"),
    "7c": ("shlex.join(job.command)", "' '.join(job.command)"),
    "1a": ("torch.randperm(count, generator=torch.Generator().manual_seed(0))", "torch.randperm(count)"),
    "1b": ("x[train].mean(0)", "x.mean(0)"),
    "1c": ("self.batch_size, shuffle=True", "self.batch_size"),
    "2b": ('self.log("val_acc", accuracy, batch_size=len(y), sync_dist=True)', "pass"),
    "2c": ("lr=self.lr)", "lr=1e-9)"),
    "3c": ("self.waits_since = time.perf_counter()\n        # End (3c)", "pass\n        # End (3c)"),
    "4b": (
        '"loss": F.cross_entropy(logits, y), "logits": logits',
        '"loss": F.cross_entropy(logits, y), "logits": -logits',
    ),
    "5b": ("math.ceil(num_samples / global_batch(batch_size, devices))", "num_samples"),
    "5c": ("math.sqrt(devices)", "float(devices)"),
    "6a": ("if name and own >= least", "if name and num_parameters(module) >= least"),
    "6c": ("max([*sizes, num_parameters(net) - sum(sizes)])", "max([*sizes, 0])"),
    "8a": ("self.is_asked = True", "pass"),
    "8b": ("generator=torch.Generator().manual_seed(epoch)", "generator=torch.Generator().manual_seed(0)"),
    "8c": (
        "torch.save(state, beside)\n    beside.replace(file)",
        "torch.save(state, beside)\n    torch.save(state, file)",
    ),
    "8d": ("    optimizer.load_state_dict(state", "    len(state"),
    "8e": ("return first_batch if epoch == first_epoch else 0", "return 0"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("part", WRONG)
def test_a_wrong_answer_is_told(part: str, in_tmp: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = (file for file in SOLUTIONS if int(file.name[:2]) == int(part[0]))
    right, wrong = WRONG[part]
    assert file.read_text().count(right) == 1
    with pytest.raises(SystemExit, match=r"^not yet: ") as end:
        run(file.read_text().replace(right, wrong), shared_data, capsys)
    assert part in str(end.value).rpartition("(")[2], "it names the part"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["05_devices", "--accelerator", "cpu"], ["06_wrap", "--policy", "size:20000"]])
def test_on_two_devices(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(EXERCISES / f"{words[0]}_solution.py"), *words[1:], "--devices", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert done.stdout.count("right: ") == 1, done.stdout
    assert {"05": "right: 2 x 32 samples a step, 23 steps", "06": "holds 77,909 of 155,818"}[
        words[0][:2]
    ] in done.stdout
