"""run: a plain PyTorch loop, recorded and steered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from litscope.console import warn
from litscope.errors import ConfigError, LitscopeError
from litscope.live.records import Status
from litscope.watch import active
from litscope.watch.folder import in_short
from litscope.watch.samplers import Loader
from litscope.watch.samples.ids import WithIds, with_ids
from litscope.watch.session import Session
from litscope.watch.target import Save


class Run:
    """A plain loop that is being watched; made by `run`."""

    def __init__(self, session: Session, data: dict[str, WithIds], parts: dict[str, Any]) -> None:
        self._session = session
        self._start_epoch = session.place.epoch
        self._data = data
        self._parts = parts

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._session.run.path

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked to end the run (`litscope stop`)."""
        return self._session.is_ending

    def dataset(self, split: str = "train") -> WithIds:
        """The data set of a split, with ids: its items are `(x, y, sample_id)`, or dicts with `sample_id`."""
        if split not in self._data:
            raise ConfigError(
                f"No data set of split {split!r} was given: litscope.watch.run(..., {_keyword(split)}=...)."
            )
        return self._data[split]

    def loader(self, split: str = "train", **options: Any) -> Loader:
        """A DataLoader of a split's samples that follows discards.

        Args:
            split: train, val or test.
            options: those of `torch.utils.data.DataLoader`.
        """
        data = self.dataset(split)
        loader = Loader(data, **options)
        data.is_steered |= loader.batch_sampler is not None
        return loader

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs up to `count` - 1, from 0 or `start_epoch`: writes the line of each when its body is done, and
        ends early if somebody asks to. Where the body saves and the script is killed before that, the run that goes
        on from there writes it."""
        for epoch in range(self._start_epoch, count):
            yield epoch
            if not self.epoch_ends():
                return

    def record(
        self,
        sample_id: Any,
        logits: Tensor | None = None,
        label: Any = None,
        *,
        signals: Mapping[str, Any] | None = None,
        loss: Tensor | None = None,
        split: str | None = None,
    ) -> None:
        """Record one batch; see `litscope.watch.record`.

        Args:
            loss: () a training batch's loss, for the run's curve.
            split: default: train, or inside `evaluating` its split.
        """
        self._session.next_batch()
        self._session.record(sample_id, logits, label, signals, split)
        if loss is not None:
            self._session.note_loss(loss)

    def weight_of(self, sample_id: Any) -> Tensor:
        """(B,) float32: the factors by which people asked to multiply these samples' loss."""
        return self._session.weight_of(sample_id)

    def step(self) -> bool:
        """Say that an optimizer step is done: actions are applied here, and a pause is waited out.

        Returns:
            False once somebody asked to end the run.
        """
        return self._session.step_ends(self._session.place.step + 1)

    @contextmanager
    def evaluating(self, split: str = "val") -> Iterator[None]:
        """Inside, `record` is about an evaluation of this split. Modes and gradients are up to you."""
        place = self._session.place
        before = place.split, place.phase
        if place.phase == "train":
            self._session.training_ends()
        place.split, place.phase = split, "eval"
        try:
            yield
        finally:
            place.split, place.phase = before

    def log(self, metrics: Mapping[str, float]) -> None:
        """Numbers for this epoch's line, such as {"val/accuracy": 0.93}."""
        self._session.log(metrics)

    def flush(self) -> None:
        """Return when all so far is on the disk. Call it before you save a checkpoint from which the run may go on:
        after a crash, the rows of the last seconds before it would be missing, and what was logged of the epoch."""
        self._session.flush()

    def epoch_ends(self) -> bool:
        """Say that the epoch is over, as `epochs` does. Returns the same as `step`."""
        goes_on = self._session.epoch_ends()
        self._session.place.epoch += 1
        return goes_on

    def _save(self, path: Path) -> None:
        torch.save({name: part.state_dict() for name, part in self._parts.items()}, path)


@contextmanager
def run(
    run_dir: str | Path | None = None,
    *,
    dataset: Any = None,
    val_dataset: Any = None,
    test_dataset: Any = None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    model: nn.Module | None = None,
    save: Save | None = None,
    class_names: Iterable[str] | None = None,
    start_step: int = 0,
    start_epoch: int | None = None,
) -> Iterator[Run]:
    """Watch a plain loop.

    Args:
        run_dir: folder of the run; default: runs/watch-1 and so on.
        dataset, val_dataset, test_dataset: map-style; they are given ids unless they have them (`with_ids`).
        optimizer: one or several, so that people can change learning rate and weight decay.
        model: saved, with the optimizer, when somebody asks for a checkpoint.
        save: instead of `model`, a function that writes a checkpoint to a path.
        class_names: in the order of the class indices; default: those of the data sets, else 0, 1, ...
        start_step: optimizer steps that the weights have behind them; above 0 an existing run goes on.
        start_epoch: the epoch that is trained next, from 0; default: the one after the last that has its line by
            `start_step`, which a checkpoint that the body of `epochs` saved at its end may not have.

    Raises:
        RunError: if the folder holds a run already, and `start_step` is 0.

    Example:
        >>> with litscope.watch.run("runs/mine", dataset=train, optimizer=optimizer) as run:
        ...     loader = run.loader(batch_size=64, shuffle=True)
        ...     for epoch in run.epochs(10):
        ...         for x, y, ids in loader:
        ...             logits = model(x)
        ...             loss = F.cross_entropy(logits, y)
        ...             optimizer.zero_grad(); loss.backward(); optimizer.step()
        ...             run.record(ids, logits, y, loss=loss)
        ...             if not run.step():
        ...                 break
    """
    session = Session(run_dir, class_names)
    session.place.step = start_step
    given = {"train": dataset, "val": val_dataset, "test": test_dataset}
    data = {split: _with_ids(part) for split, part in given.items() if part is not None}
    for split, part in data.items():
        session.register(part, split)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    session.rates.watch(optimizers)
    session.facts |= in_short(model, dataset)
    session.open(start_step)
    session.goes_on(session.num_epochs if start_epoch is None else start_epoch)
    parts: dict[str, Any] = {"model": model} if model is not None else {}
    parts |= {f"optimizer{i or ''}": one for i, one in enumerate(optimizers)}
    watched = Run(session, data, parts)
    if save is not None or model is not None:
        session.can_save(save or watched._save)
    active.push(session)
    try:
        yield watched
    except BaseException as error:
        active.pop(session)
        status: Status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        try:
            session.close(status, f"{type(error).__name__}: {error}")
        except (LitscopeError, OSError) as second:  # such as a full disk: the first error is the one to tell
            warn(f"the run could not be closed in order: {second}")
        raise
    active.pop(session)
    session.close()


def _with_ids(dataset: Any) -> WithIds:
    return dataset if isinstance(dataset, WithIds) else with_ids(dataset)


def _keyword(split: str) -> str:
    return "dataset" if split == "train" else f"{split}_dataset"
