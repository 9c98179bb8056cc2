"""What the studio refuses, as exceptions; `http` gives each a status, `rpc` a code."""

from __future__ import annotations

from litscope.errors import ConfigError, RunError, UserError


class NotThere(RunError):
    """No such run, sample or picture."""


class NoImage(NotThere):
    """A sample that cannot be shown as an image."""


class ViewExpired(UserError):
    """The order of samples that was asked for is not kept any more."""


class ReadOnly(UserError):
    """The studio was started with --read-only."""


class AskedWrong(ConfigError):
    """What was asked for is not valid.

    Attributes:
        field: the parameter that is wrong.
        position: of a filter, the character from which on it is wrong.
    """

    def __init__(self, message: str, field: str, position: int | None = None) -> None:
        super().__init__(message)
        self.field, self.position = field, position
