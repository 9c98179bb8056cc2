"""watch_or_edit: parts of a training, wrapped one by one, in the interface that users of WeightsLab know.

What comes back is the real thing: the module, the optimizer and the metric that were given, a `DataLoader`, a loss
that is called like the one inside. Using them tells the one run that this process watches where the loop stands: an
optimizer's step is a step, a pass over the training data is an epoch, and the guards say whether a batch trains.
"""

from __future__ import annotations

import atexit
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchmetrics import Metric

from litscope.console import say, warn
from litscope.errors import ConfigError, did_you_mean
from litscope.lightning_internals import trainer_of
from litscope.watch import active
from litscope.watch.hyperparameters import Hyperparameters
from litscope.watch.ids import with_ids
from litscope.watch.metrics import LoggedMetric
from litscope.watch.samplers import Loader
from litscope.watch.session import Session

_ALIASES = {
    "dataset": "data",
    "dataloader": "data",
    "hp": "hyperparameters",
    "hyperparams": "hyperparameters",
    "parameters": "hyperparameters",
}

_LOADER_OPTIONS = frozenset(inspect.signature(DataLoader.__init__).parameters) - {"self", "dataset"}


class _Watched:
    """What this process watches: made by the first part, closed by `keep_serving` or at the process's end."""

    def __init__(self) -> None:
        self.session = Session()
        self.session.counts_passes = True
        self.optimizers: list[Optimizer] = []
        self.model: nn.Module | None = None
        self.hyperparameters: Hyperparameters | None = None
        self.metrics: dict[str, LoggedMetric] = {}
        active.push(self.session)
        atexit.register(self._process_ends)

    def close(self) -> None:
        """End the run in order."""
        atexit.unregister(self._process_ends)
        active.pop(self.session)
        self.session.close()

    def _process_ends(self) -> None:
        """The same for a script that does not call `keep_serving`, perhaps because an exception ended it."""
        error = getattr(sys, "last_value", None)
        if error is not None:
            self.session.close("failed", f"{type(error).__name__}: {error}")
        self.close()

    def open(self) -> bool:
        """Open the run with the first batch; False in Lightning's sanity check, which is not recorded."""
        trainer = trainer_of(self.model)
        if trainer is not None and trainer.sanity_checking:
            return False
        if not self.session.is_open:
            self.session.open()
            if self.model is not None or self.optimizers:
                self.session.can_save(self._save)
        return True

    def stepped(self, *_: Any) -> None:
        """Called after a step of the first optimizer."""
        if not self.session.is_open:
            return
        self.session.moves_on()
        self.session.step_ends(self.session.place.step + 1)
        if self.hyperparameters is not None:
            self.hyperparameters.refresh()

    def log_metrics(self) -> None:
        """The metrics' values for the epoch."""
        for name, logged in self.metrics.items():
            self.session.log({f"{split}/{name}": value for split, value in logged.take().items()})

    def _save(self, path: Path) -> None:
        parts: dict[str, Any] = {} if self.model is None else {"model": self.model.state_dict()}
        parts |= {f"optimizer{i or ''}": one.state_dict() for i, one in enumerate(self.optimizers)}
        torch.save(parts, path)


_watched: _Watched | None = None


def _current() -> _Watched:
    global _watched
    if _watched is None:
        _watched = _Watched()
    return _watched


def watch_or_edit(obj: Any, obj_name: str | None = None, flag: str = "", **options: Any) -> Any:
    """Put one part of a training under watch, and get it back.

    Args:
        obj: the part.
        obj_name: `loader_name` of data and `signal_name` of a metric, where they are not given.
        flag: what it is, and with it what comes back and which options count:

            model             the `nn.Module` itself, moved to `device` if that is given
            optimizer         the optimizer itself
            data              a `DataLoader` of the data set `obj`, whose batches are `(x, ids, y)`. `loader_name`,
                              `is_training` (default: a name that begins with "train"), `keys`, `label` (see
                              `with_ids`), and every option of DataLoader
            loss              a module that is called as `loss(logits, y, batch_ids=ids, preds=preds)`, returns what
                              `obj` does, one number for each sample, and records the batch; `signal_name`: the
                              numbers are recorded under this name too; `log=False`: not
            metric            the metric itself; `signal_name`: its name in the epochs' metrics (`LoggedMetric` says
                              which value); `log=False`: not there
            hyperparameters   a dict with the values of a mapping or a YAML file over those of `defaults`; a file is
                              read again when it changes, looked at every `poll_interval` seconds (default 1).
                              `run_dir` among the values is the run's folder, `root_log_dir` the folder in which it
                              is made
        options: see above. Others are accepted, and named in one warning.

    Raises:
        ConfigError: for another flag, or a part of the wrong kind.
    """
    makers: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
        "model": _model,
        "optimizer": _optimizer,
        "data": _data,
        "loss": _loss,
        "metric": _metric,
        "hyperparameters": _hyperparameters,
    }
    kind = _ALIASES.get(flag, flag)
    if kind not in makers:
        hint = did_you_mean(str(flag), makers)
        raise ConfigError(f"flag={flag!r}: it is one of {', '.join(makers)}.{hint}")
    left = dict(options)
    if obj_name is not None and kind in ("data", "metric"):
        left.setdefault("loader_name" if kind == "data" else "signal_name", obj_name)
    made = makers[kind](obj, left)
    if left:
        warn(f"watch_or_edit(flag={flag!r}): litscope has no use for {', '.join(left)}; ignored")
    return made


def _require(obj: Any, kind: type, flag: str) -> None:
    if not isinstance(obj, kind):
        raise ConfigError(f"flag={flag!r} takes a {kind.__module__}.{kind.__qualname__}, not {type(obj).__name__}.")


def _model(obj: Any, options: dict[str, Any]) -> Any:
    _require(obj, nn.Module, "model")
    watched = _current()
    watched.model = obj
    device = options.pop("device", None)
    return obj if device is None else obj.to(device)


def _optimizer(obj: Any, _: dict[str, Any]) -> Any:
    _require(obj, Optimizer, "optimizer")
    watched = _current()
    if all(obj is not known for known in watched.optimizers):
        watched.optimizers.append(obj)
        watched.session.rates.watch(watched.optimizers)
        if len(watched.optimizers) == 1:
            obj.register_step_post_hook(watched.stepped)
    return obj


def _data(obj: Any, options: dict[str, Any]) -> Any:
    if isinstance(obj, DataLoader):
        raise ConfigError(
            'flag="data" takes the data set, and makes the loader: watch_or_edit(dataset, flag="data", batch_size=...).'
        )
    name = str(options.pop("loader_name", "train_loader"))
    is_training = bool(options.pop("is_training", name.startswith("train")))
    split = "train" if is_training else "test" if "test" in name else "val"
    data = with_ids(obj, place="second", keys=options.pop("keys", None), label=options.pop("label", None))
    own = {option: options.pop(option) for option in list(options) if option in _LOADER_OPTIONS}
    _current().session.register(data, split)
    return Loader(data, **own)


def _loss(obj: Any, options: dict[str, Any]) -> Any:
    if not callable(obj):
        raise ConfigError(f"flag='loss' takes a loss function, not {type(obj).__name__}.")
    name = options.pop("signal_name", None) if options.pop("log", True) else None
    options.pop("signal_name", None)
    return WatchedLoss(obj, name)


def _metric(obj: Any, options: dict[str, Any]) -> Any:
    _require(obj, Metric, "metric")
    name, is_logged = str(options.pop("signal_name", type(obj).__name__)), options.pop("log", True)
    if is_logged:
        watched = _current()
        watched.metrics[name] = LoggedMetric(obj, watched.session)
        watched.session.before_epoch_ends = watched.log_metrics
    return obj


def _hyperparameters(obj: Any, options: dict[str, Any]) -> Any:
    defaults = options.pop("defaults", None) or {}
    made = Hyperparameters(obj, defaults, float(options.pop("poll_interval", 1.0)))
    watched = _current()
    watched.hyperparameters = made
    if not watched.session.is_open:
        watched.session.facts["hyperparameters"] = dict(made)
        if made.get("run_dir"):
            watched.session.asked_folder = Path(made["run_dir"])
        elif made.get("root_log_dir"):
            watched.session.parent = Path(made["root_log_dir"])
    return made


class WatchedLoss(nn.Module):
    """A loss that records the batch it is called for.

    Args:
        inner: the person's own; returns one number for each sample.
        name: the name under which these are recorded, or None.
    """

    def __init__(self, inner: Callable[..., Tensor], name: str | None) -> None:
        super().__init__()
        self.inner = inner
        self.name = name

    def forward(self, logits: Tensor, target: Tensor, *args: Any, batch_ids: Any = None, preds: Any = None) -> Tensor:  # noqa: ARG002 preds are the logits' own
        """What the inner loss returns, times the samples' weights where people gave some.

        Args:
            logits: (B, C).
            target: (B,) class indices.
            args: for the inner loss.
            batch_ids: (B,) as the batch carries them; without them nothing is recorded.
            preds: accepted, but not needed.

        Raises:
            ConfigError: if the inner loss returns one number for the whole batch.
        """
        loss: Tensor = self.inner(logits, target, *args)
        if batch_ids is None or not _current().open():
            return loss
        if loss.ndim == 0:
            raise ConfigError(
                f"{type(self.inner).__name__} returns one number for the batch; a watched loss needs one for each "
                "sample: reduction='none', and .mean() where you call it."
            )
        session = _current().session
        signals = {self.name: loss} if self.name is not None else None
        session.record(batch_ids, logits, target, signals)
        if session.place.phase == "train":
            session.note_loss(loss.detach().mean())
        weights = session.changed_weights(torch.as_tensor(batch_ids).to(loss.device))
        return loss if weights is None else loss * weights


class _Guard(AbstractContextManager["_Guard"]):
    """Says which phase the batches inside belong to; changes no mode, no gradient, and swallows no exception.

    Used as it is, or called: `with guard_training_context:` and `with guard_training_context():` are the same.
    """

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._before: list[tuple[str, str]] = []

    def __call__(self, *_: Any, **__: Any) -> _Guard:
        """Return the guard itself, for code that calls it."""
        return self

    def __enter__(self) -> _Guard:
        place, session = _current().session.place, _current().session
        self._before.append((place.split, place.phase))
        place.split, place.phase = ("train" if self._phase == "train" else session.evaluated_split), self._phase
        return self

    def __exit__(self, *_: object) -> None:
        place = _current().session.place
        place.split, place.phase = self._before.pop()


guard_training_context = _Guard("train")
guard_testing_context = _Guard("eval")


def save_signals(
    signals: Mapping[str, Any] | None = None,
    batch_ids: Any = None,
    preds_raw: Tensor | None = None,
    targets: Any = None,
    preds: Any = None,  # noqa: ARG001 they follow from the logits
    **others: Any,
) -> None:
    """Record a batch. Rows that a watched loss has recorded already are not recorded twice.

    Args:
        signals: name -> (B,) one number for each sample; for (B, ...) each sample's mean is recorded.
        batch_ids: (B,) as the batch carries them.
        preds_raw: (B, C) logits.
        targets: (B,) class indices.
        preds: accepted, but not needed.
        others: accepted, and named in one warning.

    Raises:
        ConfigError: without ids, or if shapes do not fit.
    """
    if others:
        warn(f"save_signals: litscope has no use for {', '.join(others)}; ignored")
    if batch_ids is None:
        raise ConfigError("save_signals needs batch_ids: the second part of each batch of a watched loader.")
    if _current().open():
        means = {name: _one_each(torch.as_tensor(values)) for name, values in (signals or {}).items()}
        _current().session.record(batch_ids, preds_raw, targets, means)


def _one_each(values: Tensor) -> Tensor:
    return values if values.ndim < 2 else values.float().flatten(1).mean(1)


def serve(**_: Any) -> None:
    """Say where the run's folder is. The page that shows a run does not exist yet, so nothing is served."""
    session = _current().session
    where = session.run.path if session.is_open else session.asked_folder or f"a new folder in {session.parent}/"
    say(f"litscope: the run is recorded in {where}; nothing is served. Read and steer it: litscope --help.")


def start_training(timeout: float | None = None, **_: Any) -> None:
    """Return at once: training may start."""


def keep_serving(timeout: float | None = None, **_: Any) -> None:  # noqa: ARG001 nothing is served
    """Close the run. Nothing is served, so it returns at once."""
    global _watched
    if _watched is not None:
        _watched.close()
        _watched = None
