"""Rates: a changed learning rate or weight decay, for the time of an optimizer's step and no longer.

The value in `param_groups` belongs to the person's own schedule, which may compute the next from it. So ours is put in
by a hook just before `optimizer.step`, and taken out just after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer


class Rates:
    """The changed values, for all optimizers of a run."""

    def __init__(self) -> None:
        self._optimizers: list[Optimizer] = []
        self._handles: list[Any] = []
        self._own: list[tuple[dict[str, Any], str, Any]] = []
        self._lr: float | None = None
        self._lr_scale = 1.0
        self._weight_decay: float | None = None
        self._is_changed = False

    def watch(self, optimizers: Iterable[Optimizer]) -> None:
        """These are the run's optimizers now."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._optimizers = list(optimizers)
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before))
            self._handles.append(optimizer.register_step_post_hook(self._after))

    @property
    def has_optimizers(self) -> bool:
        """Whether there is something to change."""
        return bool(self._optimizers)

    def set(self, lr: float | None, lr_scale: float, weight_decay: float | None) -> None:
        """Change the values from the next step on; (None, 1, None) leaves them to the person's own code."""
        self._lr, self._lr_scale, self._weight_decay = lr, lr_scale, weight_decay
        self._is_changed = (lr, lr_scale, weight_decay) != (None, 1.0, None)

    def effective(self) -> float | None:
        """The learning rate of the first group, as the next step uses it; None without an optimizer."""
        return float(self._changed(self._optimizers[0].param_groups[0]["lr"])) if self._optimizers else None

    def close(self) -> None:
        """Let go of the optimizers."""
        self.watch([])

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        if not self._is_changed:
            return
        for group in optimizer.param_groups:
            self._put(group, "lr", self._changed(group["lr"]))
            if self._weight_decay is not None and group.get("weight_decay"):  # 0 marks a group that should not decay
                self._put(group, "weight_decay", self._weight_decay)

    def _put(self, group: dict[str, Any], name: str, value: Any) -> None:
        self._own.append((group, name, group[name]))
        group[name] = value

    def _changed(self, lr: Any) -> Any:
        return lr * self._lr_scale if self._lr is None else self._lr

    def _after(self, *_: Any) -> None:
        if not self._own:
            return
        for group, name, value in self._own:
            group[name] = value
        self._own = []
