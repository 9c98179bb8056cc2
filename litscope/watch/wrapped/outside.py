"""What of WeightsLab's interface is out of scope here: said once, in a sentence that says what to do instead.

The training goes on wherever it can. Nothing of this is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from litscope.console import warn
from litscope.errors import ConfigError
from litscope.watch.forms import Classified, classified

_said: set[str] = set()

_has_classes: bool | None = None
"""Whether floating targets are class indices, as the first batch told: each look would wait for the device."""


def warn_once(message: str, of: str | None = None) -> None:
    """Say it to the person, once for each run of this process.

    Args:
        message: what to say.
        of: what it is about, where the message is another one each time.
    """
    if (about := of or message) not in _said:
        _said.add(about)
        warn(message)


def forget() -> None:
    """Say everything again, for another run in this process."""
    global _has_classes
    _said.clear()
    _has_classes = None


def _outside(name: str, instead: str, answer: Any = None, *, gives_back: bool = False) -> Callable[..., Any]:
    """A function of this name that warns once, and returns `answer`, or as a decorator what it was given."""

    def function(*given: Any, **_: Any) -> Any:
        warn_once(f"{name} is out of scope. {instead}")
        return given[0] if gives_back and given else answer

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Out of scope. {instead}"
    return function


_OTHER_TASKS = (
    "litscope records classifiers with one label for each sample, and neither segmentation, detection nor point "
    "clouds; of those, only numbers for each sample are recorded (save_signals)."
)
_EVALUATE = "The loop is your own, and evaluates when it does."

save_instance_signals = _outside("save_instance_signals", _OTHER_TASKS)
save_group_signals = _outside(
    "save_group_signals", "Numbers belong to samples: give save_signals the ids of all that are in the groups."
)
save_media = _outside("save_media", "Write pictures with your own script; the run's folder can hold them.")
export_annotations = _outside("export_annotations", _OTHER_TASKS, "")
query_instance_history = _outside("query_instance_history", _OTHER_TASKS, [])
pointcloud_thumbnail = _outside("pointcloud_thumbnail", _OTHER_TASKS, gives_back=True)
pointcloud_boxes = _outside("pointcloud_boxes", _OTHER_TASKS, gives_back=True)
eval_fn = _outside("eval_fn", _EVALUATE, gives_back=True)
run_pending_evaluation = _outside("run_pending_evaluation", _EVALUATE, False)
trigger_pending_evaluation_async = _outside("trigger_pending_evaluation_async", _EVALUATE, False)
track_model_signals = _outside(
    "track_model_signals", "Compute the norms that you want after backward(), and record them: save_model_signals."
)
enable_loss_shape_autotag = _outside(
    "enable_loss_shape_autotag", "Shapes are found when somebody asks: write_loss_shapes, write_dataframe."
)
disable_loss_shape_autotag = _outside(
    "disable_loss_shape_autotag", "No shapes are found unless somebody asks: write_loss_shapes, write_dataframe."
)
ai_report_generation = _outside("ai_report_generation", "Ask the run: litscope suspects, worst, sql, figures.", "")
set_log_directory = _outside(
    "set_log_directory", "No log file is written. The run's folder is root_log_dir or run_dir of the hyperparameters."
)


class _Ledger:
    """Stands for WeightsLab's registry of objects, which there is none of."""

    def __getattr__(self, name: str) -> Any:
        raise ConfigError(
            f"ledger.{name} is out of scope: there is no registry of objects. watch_or_edit gives back the real "
            "ones, and what is recorded lies in the run's folder."
        )


ledger = _Ledger()


def class_rows(logits: Any, target: Any) -> tuple[Any, Any] | None:
    """Logits and labels of a batch, if it is one of a classifier with one label for each sample.

    Of any other batch it says once that the task is out of scope; of one without logits or labels, nothing.

    Args:
        logits: (B, C), (B,) or (B, 1) raw scores; whole numbers are predictions, of which there are no rows.
        target: (B,) or (B, 1) class indices, of any number type (`forms`).

    Returns:
        Both as they are; None if there is nothing to record.
    """
    if logits is None or target is None or (isinstance(logits, Tensor) and not logits.is_floating_point()):
        return None
    try:
        batch = classified(logits, target)
    except ConfigError as error:
        _say_other_task(str(error))
        return None
    if batch.floats is not None and not _are_classes(batch):
        _say_other_task("The targets are numbers, and no class indices.")
        return None
    return logits, target


def _say_other_task(why: str) -> None:
    warn_once(f"{_OTHER_TASKS} The training goes on without rows of the ledger. {why}", of="another task")


def _are_classes(batch: Classified) -> bool:
    """Whether floating targets are whole numbers, and 0 or 1 where there is one output."""
    global _has_classes
    if _has_classes is None:
        labels, most = batch.label, 1 if batch.is_one_logit else batch.logits.shape[1] - 1
        _has_classes = bool(((labels == batch.floats) & (labels <= most)).all())
    return _has_classes
