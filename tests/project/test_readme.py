"""What the README and the pages tell people to type works, as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litscope.cli import COMMANDS, main
from litscope.models.networks.packaged import packaged_file

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path, program: str) -> list[list[str]]:
    """The lines of a page's shell blocks that start a program, as words after its name."""
    lines = [words for block in blocks(page, "sh") for words in split(block)]
    return [words[1:] for words in lines if words and words[0] == program]


def split(block: str) -> list[list[str]]:
    """The words of each command; a quoted text may go over several lines."""
    found, open_ = [], ""
    for line in block.splitlines():
        try:
            found.append(shlex.split(open_ + line, comments=True))
            open_ = ""
        except ValueError:
            open_ += line + "\n"
    assert not open_, f"a quotation does not end: {open_}"
    return found


def takes_a_recipe(words: list[str]) -> bool:
    return words[0] in ("fit", "check", "lr-find", "batch-size-find", "tune", "cv") and "--resume" not in words


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run `litscope WORDS` here, in this process: importing torch anew for each would cost more than the command."""
    code = main(words)
    said = capsys.readouterr()
    assert code == 0, f"litscope {shlex.join(words)}\n{said.out}{said.err}"


def draw(folder: Path, count: int, is_bright: bool) -> None:
    """Gray images of 24 pixels, of a brightness that tells the class."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 120, (24, 24), np.uint8)
        Image.fromarray(pixels + np.uint8(120 * is_bright)).save(folder / f"{number:03}.png")


@pytest.fixture
def workplace(in_tmp: Path) -> Path:
    """A folder with what the pages take for granted: a person's images, new ones, and what a search has found."""
    draw(in_tmp / "my_images" / "night", 20, is_bright=False)
    draw(in_tmp / "my_images" / "day", 20, is_bright=True)
    draw(in_tmp / "new_images", 3, is_bright=True)
    best = in_tmp / "runs" / "tune-1" / "best.yaml"
    best.parent.mkdir(parents=True)
    best.write_text("data:\n  dataset: iris\ntraining:\n  lr: 0.01\n")
    return in_tmp


def test_every_page_has_what_these_tests_look_for() -> None:
    """Guards the pattern: pages whose blocks were not recognised would pass everything below."""
    assert {words[0] for page in PAGES for words in commands(page, "litscope")} >= {"fit", "worst", "predict"}
    assert commands(README, "make") == [["demo"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_understood(page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in blocks(page, "yaml"):
        (workplace / "run.yaml").write_text("\n".join([*blocks(page, "yaml")]) if "lightning" in file else file)
    for words in commands(page, "litscope"):
        assert words[0] in {*COMMANDS, "--help"}, f"{page.name}: litscope {words[0]} is not a command"
        if takes_a_recipe(words):
            assert main([*words, "--print-config"]) == 0, f"{page.name}: {shlex.join(words)}\n{capsys.readouterr().err}"


@pytest.mark.thorough
@pytest.mark.parametrize("page", [README, QUICKSTART], ids=lambda page: page.name)
def test_commands_run_in_their_order(page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but those that need the survey, a job that trains, and a network too large for this machine."""
    left_out = ["lenses", "samples.csv", "convnext_small", "--help", "pause", "set lr"]
    left_out += [] if packaged_file("tf_efficientnet_lite0") else ["--photographs"]
    ran = [words for words in commands(page, "litscope") if not any(part in " ".join(words) for part in left_out)]
    for words in ran:
        run(words, capsys)
    assert (workplace / "runs" / "mine" / "summary.json").exists()
    assert list((workplace / "runs" / "mine" / "figures").glob("*.png"))


@pytest.mark.slow
def test_the_survey_runs_as_written(in_tmp: Path, spacewarps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "spacewarps").symlink_to(spacewarps)
    images = sorted((spacewarps / "images").glob("*.jpg"))[:3]
    (in_tmp / "new_sky_images").mkdir()
    for image in images:
        (in_tmp / "new_sky_images" / image.name).symlink_to(image)
    for words in commands(README, "litscope"):
        if "lenses" in " ".join(words):
            run(words, capsys)
    assert len((in_tmp / "predictions.csv").read_text().splitlines()) == 1 + len(images)


@pytest.mark.thorough
@pytest.mark.parametrize("page", [README, ROOT / "docs" / "python.md"], ids=lambda page: page.name)
def test_python_examples_run(page: Path, in_tmp: Path) -> None:
    """Those that bring their data along."""
    examples = [block for block in blocks(page, "python") if '"digits"' in block]
    assert examples
    for code in examples:
        exec(compile(code, page.name, "exec"), {})


def test_make_has_the_targets_that_the_pages_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in [*PAGES, ROOT / "CONTRIBUTING.md"] for words in commands(page, "make") for word in words}
    assert named - {word for word in named if "=" in word} <= targets
