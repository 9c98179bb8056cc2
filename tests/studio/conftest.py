"""A Chromium over the page of these sources, and a finished run over digits of MNIST, for the tests of the page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from studio_browser import CHROMIUM, command_of_fit, launched, write_mnist

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "page.py"


@pytest.fixture(scope="session")
def built_page() -> None:
    """The page of these sources."""
    done = subprocess.run([sys.executable, str(SCRIPT), "build"], capture_output=True, text=True)
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"the page cannot be built here: {done.stdout.strip()[:300]}")
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def browser(built_page: None) -> Iterator[Browser]:
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A finished run over digits of MNIST, some of them with a wrong label. Tests act on copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    write_mnist(shared_data, folder / "digits.npz")
    run = folder / "runs" / "mnist"
    subprocess.run(command_of_fit(folder / "digits.npz", run, "--epochs", "8"), check=True, capture_output=True)
    return run
