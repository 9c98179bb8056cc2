"""sbatch, squeue and scancel that only say what a test wants: the boundary to Slurm, for what a real one is slow at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class FakeSlurm:
    """The three commands at the head of PATH.

    Attributes:
        folder: where they lie, with what they say and were asked.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "scancel"):
            program = folder / name
            program.write_text(
                f'#!/bin/sh\ncd {folder}\necho "$*" >> {name}.asked\ncode=$(cat {name}.code)\n'
                f"cat {name}.err >&2\ncat {name}.out\n[ -x {name}.then ] && ./{name}.then\nexit $code\n"
            )
            program.chmod(0o755)
            self.say(name)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def say(self, name: str, out: str = "", err: str = "", code: int = 0) -> None:
        """What a command prints and returns from now on."""
        for suffix, text in (("out", out), ("err", err), ("code", str(code))):
            (self.folder / f"{name}.{suffix}").write_text(text)

    def then(self, name: str, shell: str) -> None:
        """What happens after a command has answered, in a line of shell; {folder} is where the answers lie."""
        file = self.folder / f"{name}.then"
        file.write_text(f"#!/bin/sh\n{shell.format(folder=self.folder)}\n")
        file.chmod(0o755)

    def asked(self, name: str) -> list[str]:
        """The words of each call of a command."""
        file = self.folder / f"{name}.asked"
        return file.read_text().splitlines() if file.exists() else []
