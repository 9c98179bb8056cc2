"""`litscope doctor` tells what is there, and finds what is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from litscope import doctor

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~;\[]", requirement)[0].lower() for requirement in requirements}


def test_it_looks_at_every_dependency() -> None:
    assert {name.lower() for name in doctor.DEPENDENCIES} == names_of(PYPROJECT["project"]["dependencies"])


def test_its_extras_can_be_installed_as_it_says() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    for extra, package in doctor.EXTRAS.items():
        assert package in names_of(extras[extra])


def test_examine_and_lines() -> None:
    facts = doctor.examine()
    text = "\n".join(doctor.lines(facts))
    assert facts["packages"]["torch"] == facts["torch"]["version"].split("+")[0] or facts["packages"]["torch"]
    for name in (
        *doctor.DEPENDENCIES,
        *doctor.EXTRAS,
        "\ncpu ",
        "\ndisk ",
        "\ncache ",
        "C++ compiler",
        "torchvision ops",
    ):
        assert name in text
    for extra, found in facts["extras"].items():
        assert found["version"] or f"pip install 'litscope[{extra}]'" in text


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LITSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    facts = doctor.examine()
    assert not facts["cache"]["is_writable"]
    assert any("LITSCOPE_CACHE" in problem for problem in facts["problems"])
    assert "all is well" not in doctor.lines(facts)


def test_no_compiler_is_a_problem_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    facts = doctor.examine()
    assert facts["compiler"] is None
    assert any("apt-get install g++" in problem for problem in facts["problems"])
