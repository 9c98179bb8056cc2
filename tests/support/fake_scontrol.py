"""A scheduler at the boundary: a `scontrol` that knows one job, which is in the state that a test wants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SCRIPT = """#!/bin/sh
cd {folder}
echo "$*" >> asked
case "$1" in
    requeue) {requeue} ;;
    *) cat job; echo "Restarts=$(cat restarts) Command=/home/ada/train.sh" ;;
esac
"""


class FakeScontrol:
    """What `scontrol` on the PATH does.

    Args:
        job: what it shows of job 17, beside the number of restarts.
        requeue: what it does when asked to requeue it; default: it counts a restart.
    """

    def __init__(self, folder: Path, job: str, requeue: str = "echo 1 > restarts") -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "job").write_text(f"JobId=17 JobName=fit {job} ")
        (folder / "restarts").write_text("0")
        command = folder / "scontrol"
        command.write_text(SCRIPT.format(folder=folder, requeue=requeue))
        command.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The words of each call."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def put(self, monkeypatch: pytest.MonkeyPatch) -> FakeScontrol:
        """This process is the first start of job 17, and finds it."""
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")
        return self


RUNNING = "JobState=RUNNING Reason=None Requeue=1 BatchFlag=1 PreemptTime=None"
