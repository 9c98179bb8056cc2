"""Curves: numbers that a script names and that belong to a step, not to samples. They go to metrics/steps.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from litscope.errors import ConfigError
from litscope.live.records import COLUMNS, write_values
from litscope.watch.session import Session
from litscope.watch.wrapped.processes import is_first_process

LOG_EVERY_N_STEPS = 50
"""Steps for which numbers may wait on the device."""

Tell = Callable[[str, float, int], Any]
"""Gives a logger a name, a value and its step."""


class _Point(NamedTuple):
    name: str
    value: Tensor | float
    step: int
    epoch: int
    has_rows: bool
    """Whether the samples' own values are on record, of which this is the mean."""


class Curves:
    """Numbers on their way to the run's folder and to the script's own loggers. Adding one waits for nothing.

    Args:
        session: says where the loop stands.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._points: list[_Point] = []
        self._loggers: dict[int, Tell] = {}

    @property
    def has_loggers(self) -> bool:
        """Whether the script has loggers of its own under watch."""
        return bool(self._loggers)

    def add(self, name: str, value: Tensor | float, *, has_rows: bool = False) -> None:
        """Keep a number of the step at which the loop stands.

        Args:
            name: the curve's.
            value: (), or (B, ...) of which the mean counts.
            has_rows: whether the samples' own values are recorded elsewhere; then only the loggers are told.

        Raises:
            ConfigError: if the name is one of those that each line of steps.jsonl has.
        """
        if name in COLUMNS:
            raise ConfigError(f"{name!r} is a column of the run's own metrics; give the number another name.")
        if has_rows and not self._loggers:
            return
        kept = value.detach().float().mean() if isinstance(value, Tensor) else float(value)
        place = self._session.place
        self._points.append(_Point(name, kept, place.step, place.epoch, has_rows))

    def flush(self) -> None:
        """Write the numbers so far, a line for each step, and tell the loggers. The first process writes.

        Of several numbers of one name and step, the mean is written.
        """
        points, self._points = self._points, []
        found: dict[tuple[int, int], dict[tuple[str, bool], list[float]]] = {}
        for point in points:
            of_step = found.setdefault((point.step, point.epoch), {})
            of_step.setdefault((point.name, point.has_rows), []).append(float(point.value))
        for (step, epoch), named in found.items():
            means = {key: sum(values) / len(values) for key, values in named.items()}
            for (name, _), value in means.items():
                self._tell(name, value, step)
            own = {name: value for (name, has_rows), value in means.items() if not has_rows}
            if own and is_first_process():
                place = {"step": step, "epoch": epoch, "attempt": self._session.attempt}
                write_values(self._session.run, **place, values=own)

    def tell(self, values: Mapping[str, float]) -> None:
        """Give the loggers numbers of the epoch that ends; its line has them already."""
        for name, value in values.items():
            self._tell(name, value, self._session.place.step)

    def log_to(self, logger: Any) -> None:
        """Give every number to this logger too, from now on.

        Args:
            logger: has `log_metrics(values, step=)` as Lightning's loggers, `add_scalar(name, value, global_step=)` as
                TensorBoard's writer, or `add_scalars(name, values, global_step=)`.

        Raises:
            ConfigError: if it has none of them.
        """
        self._loggers[id(logger)] = _way_to(logger)

    def _tell(self, name: str, value: float, step: int) -> None:
        for tell in self._loggers.values():
            tell(name, value, step)


def _way_to(logger: Any) -> Tell:
    if hasattr(logger, "log_metrics"):
        return lambda name, value, step: logger.log_metrics({name: value}, step=step)
    if hasattr(logger, "add_scalar"):
        return lambda name, value, step: logger.add_scalar(name, value, global_step=step)
    if hasattr(logger, "add_scalars"):
        return lambda name, value, step: logger.add_scalars(name, {name: value}, global_step=step)
    raise ConfigError(
        f"flag='logger' takes an object with log_metrics, add_scalar or add_scalars, not {type(logger).__name__}."
    )
