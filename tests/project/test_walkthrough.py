"""The walkthrough's commands and cells run in their order, and print what the page shows, but for the numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litscope import open_run
from litscope.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "walkthrough.md"
CLASSES = ["zero", "one", "two", "three", "four", "five"]
NUM_EACH = 12


def blocks(language: str) -> list[tuple[str, str]]:
    """The page's code in one language, and the output below it."""
    pattern = rf"^```{language}\n(.*?)^```(?:\n\n```text\n(.*?)^```)?"
    return re.findall(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL)


def draw(path: Path, label: int, seed: int) -> None:
    """A gray image of 48 pixels, of a brightness that tells its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 20, (48, 48), np.uint8) + np.uint8(40 * label)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def keys() -> list[str]:
    """The samples that the page names."""
    return sorted(set(re.findall(rf"\b(?:{'|'.join(CLASSES)})/IMG_\d+\.JPG", PAGE.read_text())))


@pytest.fixture
def folder(in_tmp: Path, keys: list[str]) -> Path:
    """Images as the page has them, the named ones in a wrong folder, and new ones."""
    for label, name in enumerate(CLASSES):
        for number in range(NUM_EACH):
            draw(in_tmp / "my_images" / name / f"IMG_{number}.JPG", label, seed=100 * label + number)
        draw(in_tmp / "new_images" / f"{name}.jpg", label, seed=label)
    for seed, key in enumerate(keys):
        draw(in_tmp / "my_images" / key, (CLASSES.index(key.split("/")[0]) + 2) % len(CLASSES), seed)
    return in_tmp


def shape(line: str) -> str:
    """A line without what differs from data to data: numbers, names of samples and classes, curves, spaces."""
    line = re.sub(rf"\b(?:{'|'.join(CLASSES)})\b(?:/IMG_\d+\.JPG)?", "NAME", line)
    return re.sub(r"\s+", " ", re.sub(r"[▁▂▃▄▅▆▇█]+|[\d.,]*\d", "N", line)).strip()


HEADS = ("rank ", "key ", "id ", "monitored ", "metrics ", "next: ", "contact sheet: ", "figures: ", "best: ")
"""How lines begin that every data set has."""


@pytest.mark.slow  # two trainings of a network that finds wrong labels take half a minute
def test_the_commands_run_in_their_order(folder: Path, keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    compared = 0
    for block, shown in blocks("sh"):
        told: list[str] = []
        for line in block.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "litscope"
            code = main(words)
            said = capsys.readouterr()
            told += [*said.out.splitlines(), *said.err.splitlines()]
            assert code == 0, f"{line}\n{said.out}{said.err}"
        for line in shown.splitlines():
            assert len(line) <= 80, line
            if line.startswith(HEADS):
                compared += 1
                assert shape(line) in map(shape, told), f"{block}\n{line}\nis not in\n" + "\n".join(told)
    assert compared > 10
    decided = {entry["action"]["what"] for entry in open_run("mine").actions()}
    assert decided == {"relabel", "discard", "tag"}
    classes = open_run("curated").sql("select key, label_name from samples")
    curated = dict(zip(classes["key"].to_pylist(), classes["label_name"].to_pylist(), strict=True))
    assert 0 < len(curated) < NUM_EACH * len(CLASSES) + len(keys), "a sample was discarded"
    assert any(curated[key] != key.split("/")[0] for key in keys if key in curated), "a sample was relabelled"


@pytest.mark.slow
def test_the_cells_run_in_their_order(folder: Path) -> None:
    names: dict[str, Any] = {}
    for cell, _ in blocks("python"):
        exec(compile(cell, PAGE.name, "exec"), names)
    assert names["again"].metrics["val/accuracy"] is not None
    assert len(names["found"].names) == len(CLASSES)


def test_every_sample_that_is_named_is_shown_before() -> None:
    """A reader can only type what stood on the screen."""
    seen = ""
    for block, shown in blocks("sh"):
        for key in re.findall(r"\S+/IMG_\d+\.JPG", block):
            assert key in seen, f"{key} was not shown yet"
        seen += shown
