"""A setting is one place: a field with its docstring and its check beside it, from which everything else is read."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import litscope.config.hardware
from litscope.config import fields as tables
from litscope.config.flags import parse, recipe_from_keywords, reference_rows
from litscope.config.help import help_text
from litscope.config.section import can_be_folder, is_folder, one_of
from litscope.config.yamlfile import dump
from litscope.errors import ConfigError
from litscope.settings import Range

NEW_FIELD = '''
    num_fans: int | None = setting(None, "fans", check=Range(least=1, most=8), is_for_images=True)
    """Fans that cool the machine. Default: none is counted."""
'''


def clear_tables() -> None:
    for table in (tables.fields, tables.by_name, tables.by_key, tables._types):
        table.cache_clear()


@pytest.fixture
def section_with_one_field_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`hardware.py`, as a contributor would have it after adding three lines."""
    file = tmp_path / "hardware_with_fans.py"
    source = Path(litscope.config.hardware.__file__).read_text()
    file.write_text(source.replace("import COUNT, setting", "import COUNT, Range, setting") + NEW_FIELD)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(tables.GROUPS, "hardware", module.HardwareConfig)
    clear_tables()
    yield
    monkeypatch.undo()
    clear_tables()


@pytest.mark.usefixtures("section_with_one_field_more")
def test_a_new_setting_is_three_lines(tmp_path: Path) -> None:
    recipe = parse(["--fans", "3"])
    assert recipe.hardware.num_fans == 3  # type: ignore[attr-defined]
    assert recipe_from_keywords(num_fans=3) == recipe
    (tmp_path / "a.yaml").write_text(dump(recipe))
    assert parse(["--config", str(tmp_path / "a.yaml")]) == recipe
    assert "  # Fans that cool the machine. Default: none is counted.\n  num_fans: 3\n" in dump(recipe)
    assert "--num-fans N" in help_text("fit", "")
    row = ("--num-fans, --fans", "hardware.num_fans", "a whole number", "", "Fans that cool the machine. Default: none is counted.")  # fmt: skip # noqa: E501
    assert row in reference_rows()
    with pytest.raises(ConfigError, match="--num-fans 9: it is from 1 to 8"):
        parse(["--num-fans", "9"])
    with pytest.raises(ConfigError, match="--num-fans 3: the data are a table, and this is for images"):
        recipe.check_kind("table")


@pytest.mark.parametrize(
    ("allowed", "good", "bad", "words"),
    [
        (Range(least=1), [1, 2.5, [1, 2]], [0, math.inf, math.nan], "it is 1 or more."),
        (Range(least=1), [], [[2, 0]], "each is 1 or more."),
        (Range(above=0), [1e-9], [0, -1, math.nan], "it is more than 0."),
        (Range(least=0, below=1), [0, 0.99], [1, -0.1], "it is at least 0 and less than 1."),
        (Range(above=0, below=1), [0.5], [0, 1], "it is more than 0 and less than 1."),
        (Range(least=0, most=3), [0, 3], [-1, 4], "it is from 0 to 3."),
        (one_of("red", "blue"), ["red"], ["bluee"], "it is one of red, blue. Did you mean 'blue'?"),
    ],
)
def test_checks_say_what_is_allowed(allowed: Any, good: list[Any], bad: list[Any], words: str) -> None:
    assert [allowed(value) for value in good] == [None] * len(good)
    assert [allowed(value) for value in bad] == [words] * len(bad)


def test_a_folder_may_have_no_file_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert can_be_folder(tmp_path / "new" / "deep")
    assert is_folder(str(tmp_path)) is None
    assert not can_be_folder(tmp_path / "file" / "below")
    assert not can_be_folder("")
