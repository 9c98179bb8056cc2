"""watch_or_edit: parts of a training, wrapped one by one.

What comes back is the real thing: the module, the optimizer and the metric that were given, a `DataLoader`, a loss
that is called like the one inside. Using them tells the one run that this process watches where the loop stands: an
optimizer's step is a step, a pass over the training data is an epoch, and the guards say whether a batch trains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchmetrics import Metric

from litscope.errors import ConfigError, did_you_mean
from litscope.watch.hyperparameters import Hyperparameters, fill
from litscope.watch.metrics import LoggedMetric
from litscope.watch.wrapped.loaders import WatchedData, WatchedLoader
from litscope.watch.wrapped.losses import WatchedLoss
from litscope.watch.wrapped.outside import warn_once
from litscope.watch.wrapped.watched import Watched, current

_ALIASES = {
    "dataset": "data",
    "dataloader": "data",
    "opt": "optimizer",
    "criterion": "loss",
    "signals": "signal",
    "watch": "signal",
    "hp": "hyperparameters",
    "hyperparams": "hyperparameters",
    "params": "hyperparameters",
    "parameters": "hyperparameters",
    "config": "hyperparameters",
}

_LOADER_OPTIONS = frozenset(inspect.signature(DataLoader.__init__).parameters) - {"self", "dataset"}

_NAMES = {"data": "loader_name", "loss": "signal_name", "signal": "signal_name", "metric": "signal_name"}
"""The option that names a part, by its kind; `name` and `obj_name` may stand for it."""


def watch_or_edit(obj: Any, obj_name: str | None = None, flag: str | None = None, **options: Any) -> Any:
    """Put one part of a training under watch, and get it back.

    Args:
        obj: the part.
        obj_name: its name, as `loader_name` or `signal_name`, where that is not given; so is the option `name`.
        flag: what it is, and with it what comes back and which options count:

            model             the `nn.Module` itself, moved to `device` if that is given
            optimizer         the optimizer itself
            data              a `DataLoader` of the data set `obj`, which is also an iterator without an end, and whose
                              batches are `(x, ids, y)`. `loader_name`, `is_training` (default: a name that begins with
                              "train"), `keys`, `label` (see `with_ids`), and every option of DataLoader; those that
                              are not given are taken from the hyperparameters' `data`, by the loader's name
            loss, criterion   a module that is called as `loss(logits, y, batch_ids=ids, preds=preds)`, returns what
                              `obj` does, one number for each sample, and records the batch; `signal_name`: the
                              numbers are recorded under this name too; `log=False`: loggers are not told their mean
            metric            the metric itself; `signal_name`: its name in the epochs' metrics (`LoggedMetric` says
                              which value); `log=False`: not there. What is no torchmetrics metric is as a loss
            signal            a torchmetrics metric as a metric, anything else as a loss
            hyperparameters   (also hp, params, config) a dict: the script's own, with `defaults` for what it lacks, or
                              one that follows a YAML file, looked at every `poll_interval` seconds (default 1).
                              `run_dir` among the values is the run's folder, `root_log_dir` the folder in which it
                              is made
            logger            the logger itself; it is told each number of a step or an epoch that has a name
        options: see above, and `root_log_dir`, the folder in which the run is made, where the hyperparameters do not
            say. Others are accepted, and named in one warning.

    Raises:
        ConfigError: for another flag, or a part of the wrong kind.
    """
    makers: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
        "model": _model,
        "optimizer": _optimizer,
        "data": _data,
        "loss": _loss,
        "metric": _metric,
        "signal": _signal,
        "hyperparameters": _hyperparameters,
        "logger": _logger,
    }
    kind = _ALIASES.get(str(flag), str(flag))
    if kind not in makers:
        hint = did_you_mean(str(flag), [*makers, *_ALIASES])
        raise ConfigError(f"flag={flag!r}: it is one of {', '.join(makers)}.{hint}")
    left = dict(options)
    _take_name(kind, left, obj_name)
    if (folder := left.pop("root_log_dir", None)) is not None:
        current().root_log_dir = folder
    made = makers[kind](obj, left)
    if left:
        warn_once(f"watch_or_edit(flag={flag!r}): litscope has no use for {', '.join(left)}; ignored")
    return made


def _take_name(kind: str, options: dict[str, Any], obj_name: str | None) -> None:
    """Put the part's name, however it was given, where its kind looks for it."""
    name = options.pop("name", None) or obj_name
    if kind in _NAMES and name is not None:
        options.setdefault(_NAMES[kind], name)


def _require(obj: Any, kind: type, flag: str) -> None:
    if not isinstance(obj, kind):
        raise ConfigError(f"flag={flag!r} takes a {kind.__module__}.{kind.__qualname__}, not {type(obj).__name__}.")


def _model(obj: Any, options: dict[str, Any]) -> Any:
    _require(obj, nn.Module, "model")
    watched = current()
    watched.model = obj
    device = options.pop("device", None)
    return obj if device is None else obj.to(device)


def _optimizer(obj: Any, _: dict[str, Any]) -> Any:
    _require(obj, Optimizer, "optimizer")
    watched = current()
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
    watched = current()
    name = str(options.pop("loader_name", "train_loader"))
    for option, value in _section(watched.hyperparameters, "data", name).items():
        if option in _LOADER_OPTIONS:
            options.setdefault(option, value)
    is_training = bool(options.pop("is_training", name.startswith("train")))
    split = "train" if is_training else "test" if "test" in name else "val"
    data = WatchedData(obj, "second", options.pop("keys", None), options.pop("label", None))
    own = {option: options.pop(option) for option in list(options) if option in _LOADER_OPTIONS}
    loader = WatchedLoader(data, **own)
    data.is_steered = loader.batch_sampler is not None
    watched.session.register(data, split)
    watched.loaders[name] = loader
    return loader


def _section(values: Any, *path: str) -> dict[str, Any]:
    """A mapping inside mappings; empty if it is not there."""
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return dict(values) if isinstance(values, Mapping) else {}


def _loss(obj: Any, options: dict[str, Any]) -> Any:
    if not callable(obj):
        raise ConfigError(f"flag='loss' takes a loss function, not {type(obj).__name__}.")
    options.pop("per_sample", None)  # it always is
    name, is_logged = options.pop("signal_name", None), bool(options.pop("log", True))
    if name is not None:
        current().losses.append(name)
    return WatchedLoss(obj, name, is_logged)


def _metric(obj: Any, options: dict[str, Any]) -> Any:
    if not isinstance(obj, Metric) and callable(obj):
        return _loss(obj, options)
    _require(obj, Metric, "metric")
    name, is_logged = str(options.pop("signal_name", type(obj).__name__)), options.pop("log", True)
    if is_logged:
        watched = current()
        watched.metrics[name] = LoggedMetric(obj, watched.session, partial(_computed, watched, name))
    return obj


def _computed(watched: Watched, name: str, value: Any, step: Any) -> None:
    """The script computed a metric: that is a point of its curve."""
    if isinstance(value, Tensor | int | float) and getattr(value, "ndim", 0) == 0 and watched.open():
        watched.stands_at(step)
        watched.curves.add(name, value)


def _signal(obj: Any, options: dict[str, Any]) -> Any:
    return (_metric if isinstance(obj, Metric) else _loss)(obj, options)


def _hyperparameters(obj: Any, options: dict[str, Any]) -> Any:
    defaults, poll_s = options.pop("defaults", None) or {}, float(options.pop("poll_interval", 1.0))
    if isinstance(obj, dict):
        fill(obj, defaults)
        made = obj
    else:
        made = Hyperparameters(obj, defaults, poll_s)
    current().hyperparameters = made
    return made


def _logger(obj: Any, options: dict[str, Any]) -> Any:
    watched = current()
    watched.root_log_dir = options.pop("log_dir", None) or watched.root_log_dir
    watched.curves.log_to(obj)
    return obj
