"""Processes of their own in milliseconds: a server that has imported everything forks them.

One server per test process, started when a test first wants it. It has one thread and has never trained, so that
its children may: torch refuses to differentiate in a child of a process that did. What only a new interpreter can
show (the installed command, `-m`, what is imported when) starts one instead.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, SUPPORT

Environment = Mapping[str, str]


@cache
def server() -> ForkServerContext:
    """The context whose processes are forked from the server; starts it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "ledger_rows", "preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(SUPPORT), *sys.path]))
        forkserver.ensure_running()
    atexit.register(_kill_what_is_left)
    return context


class Forked:
    """A forked process with the face of a `subprocess.Popen`. What it says goes to files without a name.

    Args:
        target: a function of a module, called with `arguments`; what it returns is the exit code.
        cwd: its working directory; default: this process's.
        environment: variables beside those of this process.
        is_strict: warnings are errors.
    """

    def __init__(
        self,
        target: Callable[..., int | None],
        *arguments: Any,
        cwd: Path | None = None,
        environment: Environment | None = None,
        is_strict: bool = False,
    ) -> None:
        self._stdout, self._stderr = _nameless(), _nameless()
        weakref.finalize(self, lambda files: [os.close(file) for file in files], (self._stdout, self._stderr))
        where = _Where(cwd or Path.cwd(), {**os.environ, **(environment or {})}, is_strict)
        handed = _Handed(self._stdout), _Handed(self._stderr)
        self._process = server().Process(target=_live, args=(where, *handed, target, arguments))
        self._process.start()
        self.args = (target.__name__, *arguments)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `Popen.returncode`; minus the number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired([str(word) for word in self.args], timeout, stderr=self.stderr.encode())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it said on stdout and stderr."""
        self.wait(timeout)
        return self.stdout, self.stderr

    def send_signal(self, number: signal.Signals) -> None:
        """Send it to this process, not to its children."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """What it has said so far."""
        return _read(self._stdout)

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return _read(self._stderr)

    def wait_until_it_says(self, words: str, timeout: float = 120) -> None:
        """Wait until the words are on stderr."""
        deadline = time.monotonic() + timeout
        while words not in self.stderr:
            if time.monotonic() > deadline or self.poll() is not None:
                self.kill()
                raise AssertionError(f"it did not say {words!r}: {self.stderr}")
            time.sleep(0.02)


def started_cli(*words: str, **options: Any) -> Forked:
    """`litscope *words` in a process of its own; options as `Forked`."""
    return Forked(_cli, words, **options)


def run_cli(*words: str, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """`litscope *words`, as `subprocess.run` would; options as `Forked`."""
    return finished(started_cli(*words, **options), timeout)


def finished(process: Forked, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Wait for its end, and return what `subprocess.run` would; kills it if that takes too long."""
    try:
        said = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess([str(word) for word in process.args], process.wait(), *said)


# ---- in the child ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Where:
    cwd: Path
    environment: dict[str, str]
    is_strict: bool


def _live(where: _Where, stdout: int, stderr: int, target: Callable[..., int | None], arguments: Any) -> None:
    """The whole life of the forked process."""
    import spared

    for stream, file in ((sys.stdout, stdout), (sys.stderr, stderr)):  # lightning's logger holds on to sys.stderr
        stream.flush()
        os.dup2(file, stream.fileno())
        os.close(file)
    os.environ.clear()
    os.environ.update(where.environment)
    os.chdir(where.cwd)
    spared.spare()
    warnings.resetwarnings()
    warnings.simplefilter("error" if where.is_strict else "default")
    sys.exit(target(*arguments))


def _cli(words: tuple[str, ...]) -> int:
    from litscope.cli import main

    sys.argv = ["litscope", *words]
    return main()


class _Handed:
    """A file descriptor that the server hands on to its child."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.descriptor),)


def _received(handed: Any) -> int:
    return int(handed.detach())


# ---- in the test -----------------------------------------------------------------------------


def _nameless() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode()


def _kill_what_is_left() -> None:
    for process in multiprocessing.active_children():
        process.kill()
