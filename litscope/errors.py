"""The exceptions that litscope raises on purpose, and the exit code each one ends a command with.

    LitscopeError            1   a run or a file failed
    ├── UserError            2   the user can mend it: a flag, a path, a file, a missing extra
    │   ├── ConfigError          a flag, a YAML key or a combination of them
    │   ├── DataError            the data set, its labels, its files
    │   ├── ModelError           an architecture or weights file
    │   ├── RunError             a run folder or a checkpoint that is missing, taken or damaged
    │   └── MissingExtra         an optional dependency is not installed
    ├── StorageError         1   an object store or a web server does not answer
    ├── LedgerError          1   signals could not be recorded or read
    ├── NonFiniteLossError   1   the loss became NaN or infinite
    ├── Superseded           1   another process has taken the run over
    └── Interrupted        130   Ctrl-C or SIGTERM; the checkpoint is written
        └── Preempted       75   a scheduler wants the machine back; the same command goes on later

A message says what was wrong, with the value; what is allowed; and what to do next.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_UNUSABLE_PATH = {
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS
}  # fmt: skip
"""What the system says about a path that cannot be used: the user can give another. A full disk is another matter."""


class LitscopeError(Exception):
    """Root of the tree. A command ends with `exit_code` and prints the message, no traceback.

    Attributes:
        exit_code: of the command.
        is_said: whether another process of the run says the message.
    """

    exit_code = 1
    is_said = False


class UserError(LitscopeError, ValueError):
    """Something that the user can mend."""

    exit_code = 2


class ConfigError(UserError):
    """A flag, a YAML key, or a combination of them, is not valid."""


class DataError(UserError):
    """The data set cannot be used as it is."""


class ModelError(UserError):
    """An architecture name or a weights file cannot be used."""


class RunError(UserError):
    """A run folder or a checkpoint is missing, taken or damaged."""


class MissingExtra(UserError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed. Install it with: pip install 'litscope[{extra}]'"
        )


class StorageError(LitscopeError):
    """An object store or a web server gave no answer for so long that the run ends."""


class LedgerError(LitscopeError):
    """Signals could not be recorded or read."""


class NonFiniteLossError(LitscopeError):
    """The loss became NaN or infinite."""


class Superseded(LitscopeError):
    """Another process has taken the run over, so this one may not write to it any more."""


class Interrupted(LitscopeError):
    """Ctrl-C or SIGTERM ended the run after its checkpoint was written."""

    exit_code = 130


class Preempted(Interrupted):
    """A scheduler wanted the machine back. The exit code is that of a temporary failure: try again.

    Attributes:
        is_requeued: its job waits in the queue again.
    """

    exit_code = 75

    def __init__(self, message: str, is_requeued: bool = False) -> None:
        super().__init__(message)
        self.is_requeued = is_requeued


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with this error."""
    if isinstance(error, LitscopeError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code
    return UserError.exit_code if isinstance(error, OSError) and error.errno in _UNUSABLE_PATH else 1


def words_of(error: BaseException) -> str | None:
    """What a command says that ends with this error, which is no defect of its own; None for one that is.

    >>> words_of(OSError(28, "No space left on device", "last.ckpt")), words_of(TypeError("x"))
    ('No space left on device: last.ckpt', None)
    """
    if isinstance(error, LitscopeError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.errno is not None:  # of the system: a full disk, a share that is gone
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return None


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A sentence with the closest known names, or an empty string when none is close. A name that differs by nothing
    but case, hyphens and underscores is the only one.

    >>> did_you_mean("resnet81", ["resnet18", "resnet34", "vit_b_16"], limit=1)
    " Did you mean 'resnet18'?"
    """
    names = list(known)
    close = [other for other in names if _bare(other) == _bare(name)]
    close = close or difflib.get_close_matches(name, names, n=limit, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(c) for c in close) + "?"


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
