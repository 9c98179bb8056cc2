"""How many passes with dropout on a person may ask for."""

from __future__ import annotations

from litscope.errors import ConfigError

LEAST_PASSES = 2
"""One pass disagrees with nobody."""


def passes(asked: int | None) -> int:
    """How many passes `--mc-dropout` asks for; 0 where it does not.

    Raises:
        ConfigError: for fewer than two.
    """
    if asked is not None and asked < LEAST_PASSES:
        raise ConfigError(f"--mc-dropout {asked}: it is {LEAST_PASSES} passes or more; 20 are usual.")
    return asked or 0
