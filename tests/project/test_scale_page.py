"""docs/scale.md: its model is what the script works out, and every row of its table is backed by a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text()
ROWS = [line for line in PAGE.splitlines() if ".py::" in line]


def test_the_model_on_paper_is_what_the_script_works_out() -> None:
    script = ROOT / "scripts" / "scale_model.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0
    assert "| **a step** |" in PAGE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_row_names_a_test_that_is_there(row: str) -> None:
    file, test, case = re.fullmatch(r".*`(\w+\.py)::(\w+)(?:\[(.*)\])?` \|", row).groups()
    (path,) = (ROOT / "tests").rglob(file)
    function = function_of(path, test)
    assert function is not None
    assert case is None or case in case_names(path, function), case


def function_of(path: Path, name: str) -> ast.FunctionDef | None:
    body = ast.parse(path.read_text()).body
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def case_names(path: Path, function: ast.FunctionDef) -> set[str]:
    """Every text in the function's marks, and the keys of the file's tables that they name."""
    tree = ast.parse(path.read_text())
    tables = {
        node.target.id: [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Dict)
    }
    found: set[str] = set()
    for node in ast.walk(ast.Module(body=[ast.Expr(mark) for mark in function.decorator_list], type_ignores=[])):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.Name):
            found |= set(tables.get(node.id, []))
    return found


def test_every_combination_has_a_row() -> None:
    path = ROOT / "tests" / "launch" / "test_on_two_ranks.py"
    named = {re.sub(r"\[.*", "", row.rpartition("::")[2].rstrip("` |")) for row in ROWS if path.name in row}
    tests = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert named == {name for name in tests if name.startswith("test_")}
