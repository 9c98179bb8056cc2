"""Hyperparameters of a script from YAML that no person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from litscope.errors import ConfigError
from litscope.watch.hyperparameters import Hyperparameters


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 10_000, "a: !!int two", "a: !!bool maybe", "a: !!timestamp 2020", "a: \0", "a: !!int ''", "- a"],
)
def test_a_strange_file_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"h\.yaml"):
        Hyperparameters(tmp_path / "h.yaml", {}, 1.0)


@pytest.mark.parametrize("text", ["a: 1\nb: &b [*b]", "&a\na: 1\nb: *a"])
def test_what_holds_itself_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.yaml").write_text(text)
    assert Hyperparameters(tmp_path / "h.yaml", {"c": 2}, 1.0)["a"] == 1
