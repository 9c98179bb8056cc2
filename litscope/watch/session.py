"""Session: one watched run. It opens the folder, records, applies actions, and closes all in order.

Everything a door of this package does ends here; a door only says where the loop stands (`Place`), which loaders
there are, and when a step or an epoch is over. Nothing here draws a random number, changes a batch, or waits for the
device in a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from litscope.attempts import begin_attempt
from litscope.claims import Claim, held
from litscope.console import say
from litscope.errors import LitscopeError, Superseded
from litscope.ledger.upkeep import Upkeep
from litscope.live.pace import Pace
from litscope.live.ranks import Ranks
from litscope.live.records import SPLITS, Ending, Status, epoch_rows, metrics_in, write_step, write_summary
from litscope.live.steered import Moment
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests
from litscope.rundir import RunDir
from litscope.runs import RUNS
from litscope.watch.epochs import WatchedEpochs
from litscope.watch.folder import describe, ended_unclosed, take_folder
from litscope.watch.place import Place
from litscope.watch.rates import Rates
from litscope.watch.rows import WatchedRows, as_ids
from litscope.watch.samples.census import Census
from litscope.watch.samples.drawn import Drawn
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.roster import Roster
from litscope.watch.target import Save, WatchedTraining
from litscope.watch.thumbnails import keep_thumbnails


class Session:
    """A watched run.

    Args:
        run_dir: its folder; default: the first of runs/watch-1, runs/watch-2, ... that is free.
        class_names: in the order of the class indices; default: what the data sets tell, else 0, 1, ...
        log_every_n_steps: optimizer steps between two lines of metrics/steps.jsonl.

    Attributes:
        place: where the loop stands.
        roster: the samples that are known.
        rates: of the optimizers.
        run: the folder, once it is open.
        is_ending: whether somebody asked to end the run.
        counts_passes: whether an epoch is a pass over the training data (else somebody calls `epoch_ends`).
        attempt: number of the run's attempt, from 1 once it is open.
        evaluated_split: of the last evaluation loader that started.
        asked_folder: where the run is to be made, as asked for.
        parent: where it gets a folder with a number, if nobody asked for one.
        before_epoch_ends: called before an epoch's line is written.
        facts: what the script told about itself, for the run's recipe.yaml.
        is_predicting: whether what is shown now are predictions, which are neither recorded nor steered.
    """

    def __init__(
        self, run_dir: str | Path | None = None, class_names: Iterable[str] | None = None, log_every_n_steps: int = 50
    ) -> None:
        self.place = Place()
        self.roster = Roster(None if class_names is None else tuple(class_names))
        self.rates = Rates()
        self.facts: dict[str, Any] = {}
        self.is_predicting = False
        self.counts_passes = False
        self.before_epoch_ends: Callable[[], None] | None = None
        self.evaluated_split = "val"
        self.asked_folder = run_dir
        self.parent = RUNS
        self._log_every_n_steps = log_every_n_steps
        self._run: RunDir | None = None
        self._is_closed = True
        self.attempt = 0
        self._upkeep: Upkeep | None = None
        self._rows = WatchedRows(self.roster)
        self._census = Census(self.roster)
        self._epoch_before: int | None = None
        self._epochs = WatchedEpochs()
        self._losses: list[Tensor] = []
        self._began = time.monotonic()

    # ---- beginning and ending ------------------------------------------------------------------

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        assert self._run is not None, "the session is not open"
        return self._run

    @property
    def path(self) -> Path | None:
        """Where it lies; None before it was opened for the first time."""
        return None if self._run is None else self._run.path

    @property
    def is_open(self) -> bool:
        """Whether rows are still recorded."""
        return not self._is_closed

    @property
    def num_epochs(self) -> int:
        """Epochs that have their line, those of earlier attempts included."""
        return max((row["epoch"] + 1 for row in epoch_rows(self.run)), default=0)

    @property
    def is_ending(self) -> bool:
        """Whether somebody asked to end the run in order."""
        return self.is_open and self._steering.is_ending

    def register(self, data: Drawn | WithIds, split: str, step: int = 0) -> None:
        """Take in what a loader draws, or a whole data set, for a training that stands at `step`; see `Roster.add`."""
        if self._run is None and step > 0 and self.asked_folder is not None:
            self._census.expect(RunDir(self.asked_folder))
        self._census.register(data, split)

    def open(self, step: int = 0) -> None:
        """Open the run, before its first row. All ranks come here at the same point. A second call does nothing.

        Args:
            step: optimizer steps that lie behind the weights; above 0 an existing run goes on from there.

        Raises:
            RunError: if the folder holds a run already, and this is no continuation of it.
        """
        if self.is_open:
            return
        self._ranks = Ranks()
        self._held = ExitStack()
        found: tuple[str, int, str] | LitscopeError = ("", 0, "")
        if self._ranks.rank == 0:
            try:
                found = self._begin(step)
            except LitscopeError as error:  # other ranks wait for the folder's name
                found = error
        found = self._ranks.first(found)
        if isinstance(found, LitscopeError):
            raise found
        folder, self.attempt, token = found
        self._run, self._is_closed = RunDir(folder), False
        self._claim = Claim(self.run, token)
        self._own = self._census.open(self.run, self._ranks, step, self._check_claim)
        self._rows.open(self.run, self.attempt, self._ranks.rank, self._own, self._check_claim)
        self._epochs.open(self.run, self.attempt, step, is_first_rank=self._ranks.rank == 0)
        self._began = time.monotonic()
        self._target = WatchedTraining(self.roster, self.rates, self.run.checkpoints, self._own)
        self._target.are_weights_used = step > 0  # the loop asked for them before, or the journal has none
        self._steering = Steering(self.run, self._check_claim)
        self._stop_requests = StopRequests()  # never installed: Ctrl-C is the script's own
        self._pace = Pace(self._stop_requests, save_every_s=None, max_time_s=None)
        self._upkeep = Upkeep(self.run, guard=self._check_claim) if self._ranks.rank == 0 else None
        self._steering.start(self._target, self._ranks, self._stop_requests, self.attempt, {}, self._moment())
        self._epochs.clock.start()
        if self._ranks.rank == 0:
            say(f"litscope: every sample of this run goes on record in {folder}")

    def goes_on(self, epoch: int) -> None:
        """Say in which epoch the loop stands where it goes on from a checkpoint. A second call does nothing more.

        Args:
            epoch: that is trained next, or in the middle of; those before it are over.
        """
        self.place.epoch = epoch
        self._epochs.take_up(epoch, self._target.num_edits)

    def is_yet_to_end(self, step: int) -> bool:
        """Whether the folder holds a run that nobody closed after its last step, which was step `step`.

        A fit from its last checkpoint has nothing left to train. All ranks come here at the same point.
        """
        if self._run is not None or self.asked_folder is None or step == 0:
            return False
        ranks, run = Ranks(), RunDir(self.asked_folder)
        return bool(ranks.first(ranks.rank == 0 and run.is_run() and ended_unclosed(run, step)))

    def close(self, status: Status = "finished", message: str = "") -> None:
        """Write what is left, and how the run ended. A second call does nothing.

        Args:
            status: finished, interrupted or failed.
            message: why, where it did not finish.

        Raises:
            LedgerError: if the rows cannot be written.
            ConfigError: if the run was to finish, and labels that it recorded are no classes; it has failed, then.
            Superseded: if it was to finish, and another process has taken it over; nothing is written then.
        """
        if self._is_closed:
            return
        if status == "finished" and self.counts_passes and self._num_shown():
            self.epoch_ends()  # no further pass tells that the last epoch is over
        self._is_closed = True
        self.rates.close()
        self.roster.release()
        try:
            self._write_end(status, message)
        except Superseded:
            if status == "finished":  # else why it ends is told already
                raise

    def _write_end(self, status: Status, message: str) -> None:
        is_over, refusal = status == "finished", None
        with self._held:
            try:
                self._rows.close()
                if is_over and (refusal := self._rows.refusal) is not None:
                    is_over, status, message = False, "failed", str(refusal)
                if self._ranks.rank == 0:
                    self._check_claim()
                    self._census.learn(self.place.epoch)
                    if not is_over:  # before the work below: who waits for the process to end may not wait for that
                        write_summary(self.run, self._ending(status, message))
            finally:
                if self._upkeep is not None:
                    self._upkeep.close(is_over)
            if is_over and self._ranks.rank == 0:  # after it: who finds that it finished finds all the rest
                self._check_claim()
                self._rows.tell_if_no_logits()
                keep_thumbnails(self.run, self.roster)
                write_summary(self.run, self._ending(status, message))
        if refusal is not None:
            raise refusal

    def reopen(self) -> None:
        """Take rows again after `close`, in the same attempt: a test after the training."""
        if self.is_open or self._run is None:
            return
        self._ranks, self._held, self._is_closed = Ranks(), ExitStack(), False
        self.roster.hold()
        token = ""
        if self._ranks.rank == 0:
            token = self._held.enter_context(held(self.run)).token
            self._upkeep = Upkeep(self.run, guard=self._check_claim)
        self._claim = Claim(self.run, self._ranks.first(token))

    def _check_claim(self) -> None:
        """The guard of all that writes: raises `Superseded` once another process has taken the run over."""
        self._claim.check()

    def _begin(self, step: int) -> tuple[str, int, str]:
        """Rank 0: make the folder, or take up the one that is there. Its path, the attempt, and the claim's token."""
        run, goes_on = take_folder(self.asked_folder, self.parent, step)
        self._run = run
        claim = self._held.enter_context(held(run))
        if goes_on:
            run.summary.unlink(missing_ok=True)  # it tells the end of an earlier attempt
            if step > 0:
                self._census.expect(run)
            else:
                run.own_ids.unlink(missing_ok=True)
        describe(run, self.facts)
        self.roster.manifest().write(run.manifest)
        run.epoch_metrics.touch()
        run.actions.touch()
        attempt = begin_attempt(run, step, "a checkpoint of its own script" if step else None)
        return str(run.path), attempt, claim.token

    # ---- rows ----------------------------------------------------------------------------------

    def record(
        self,
        sample_id: Any,
        logits: Tensor | None = None,
        label: Any = None,
        signals: Mapping[str, Any] | None = None,
        split: str | None = None,
    ) -> None:
        """Record one batch as it stands; see `litscope.watch.record`."""
        place = self.place
        if not place.is_recorded:
            return
        is_place = split is None or split == place.split
        split, phase = (place.split, place.phase) if split is None else (split, "train" if split == "train" else "eval")
        where: dict[str, Any] = {"step": place.step, "epoch": place.epoch, "split": split, "phase": phase}
        if not self._carries(split, is_place):
            space = place.space if is_place and place.space else split
            sample_id, where["split"] = self._own.on_their_way(sample_id, split, space)
        elif is_place and place.drawn is not None:
            self._census.check(place.drawn, split, as_ids(sample_id, logits), label)
        num_rows = self._rows.add(sample_id, logits, label, signals or {}, where)
        if phase == "train":
            self._epochs.clock.num_samples += num_rows

    def _carries(self, split: str, is_place: bool) -> bool:
        """Whether batches of a split have the ids of `with_ids`, and not a person's own."""
        is_known = is_place and self.place.is_loader_known
        return self.place.drawn is not None if is_known else self._census.carries(split)

    @property
    def has_row(self) -> bool:
        """Whether the batch that is under way is recorded already."""
        return self._rows.has_row

    @property
    def has_signals(self) -> bool:
        """Whether the batch that is under way has told numbers of a person's own."""
        return self._rows.has_signals

    def next_batch(self) -> None:
        """Another batch begins: it may be recorded; a training one trains with the rate of now."""
        self._rows.next_batch()
        if self.place.phase == "train":
            self._epochs.rate = self.rates.effective()

    def moves_on(self) -> None:
        """A step is done or a loader starts anew: equal ids from here on are another visit, unless they are the very
        same tensor."""
        self._rows.has_moved_on = True
        self._epochs.rate = self.rates.effective()

    def note_loss(self, loss: Tensor) -> None:
        """Keep a training batch's loss (), for the curve. Nothing is computed."""
        self._losses.append(loss.detach())

    def weight_of(self, sample_id: Any) -> Tensor:
        """The weights (B,) that people gave these samples; see `litscope.watch.weight_of`."""
        are_own = not self._carries(self.place.split, is_place=True)
        return self._target.weight_of(sample_id, (self.place.space or self.place.split) if are_own else None)

    def changed_weights(self, sample_id: Any) -> Tensor | None:
        """The weights (B,) of `weight_of`, or None as long as nobody has given any."""
        self._target.are_weights_used = True
        return self.weight_of(sample_id) if self._target.has_weights else None

    def flush(self, metrics: Mapping[str, float] | None = None) -> None:
        """Return when all so far is on the disk, the epoch's part included: before a checkpoint is written, or a run
        that goes on from it would lack it after a crash.

        Args:
            metrics: of the epoch so far, beside those that were logged.

        Raises:
            LedgerError: if the rows cannot be written.
            Superseded: if another process has taken the run over.
        """
        if self.is_open:
            self._check_claim()
            self._rows.flush(wait=True)
            self._epochs.note(self.place.epoch, self.place.step, metrics_in(metrics or {}))

    def can_save(self, save: Save) -> None:
        """How the loop writes a checkpoint."""
        self._target.save = save

    # ---- steps and epochs ------------------------------------------------------------------------

    def step_ends(self, step: int) -> bool:
        """`step` optimizer steps are done: apply what is asked for, wait out a pause.

        Returns:
            Whether training goes on; False once somebody asked to end it.
        """
        every = self._log_every_n_steps
        is_due = step // every > self.place.step // every  # a batch may take several steps, with several optimizers
        self.place.step = step
        if is_due:
            self._log_step()
        if self._pace.due(self._ranks, step, self._steering.has_news()).news or self._steering.is_scripted(step):
            self._epochs.clock.skip(self._steering.take(self._moment()))
        return self._goes_on()

    def apply_actions(self) -> None:
        """Apply what is asked for now, rather than after the next step. All ranks come here at the same point."""
        self._epochs.clock.skip(self._steering.take(self._moment()))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Numbers for the line of the epoch that runs."""
        self._epochs.metrics |= {name: float(value) for name, value in metrics_in(metrics).items()}

    def epoch_ends(self) -> bool:
        """The epoch's training and validation are over: write its line, with what was logged, and begin the next one.

        Returns:
            As `step_ends`.
        """
        if self.before_epoch_ends is not None:
            self.before_epoch_ends()
        self._check_claim()
        self._log_step()
        self._rows.flush(wait=True)
        num_samples = sum(self._ranks.gather(self._num_shown()))
        self._rows.num_told = 0
        self._census.share(self.place.epoch)
        self._epochs.end(self.place.epoch, self.place.step, num_samples, self._target.num_edits)
        if self._upkeep is not None:
            self._upkeep.epoch_ended()
        self.apply_actions()
        self._epochs.clock.start()
        return self._goes_on()

    def epoch_begins(self, epoch: int) -> None:
        """The training of an epoch begins, where the loop counts them. The one before it is ended if nobody did: the
        fit goes on from a checkpoint that was written between its last step and its end."""
        if epoch != self.place.epoch and self._epochs.is_taken_up:
            self.epoch_ends()
        self.place.epoch = epoch

    def _goes_on(self) -> bool:
        """False once somebody asked to end the run: then loaders of ours run dry as well."""
        if self._steering.is_ending:
            self.roster.end("train", self.counts_passes)
        return not self._steering.is_ending

    def pass_begins(self, data: WithIds) -> None:
        """A loader of this data set starts anew: of training data, the next epoch, where no loop tells of epochs."""
        self.moves_on()
        part = self.roster.part_carried_by(data)
        if part is None or not self.counts_passes or not self.is_open:
            return
        if part.split != "train":
            self.evaluated_split = part.split
        elif self._num_shown():
            self.epoch_ends()
            self.place.epoch += 1

    def _num_shown(self) -> int:
        """Training samples of this epoch so far, on this rank; some runs record a person's own numbers alone."""
        return self._epochs.clock.num_samples or self._rows.num_told

    def stands_alone(self, splits: Iterable[str]) -> None:
        """An evaluation begins that is no part of a training. Of a split that was recorded before, it is a pass of its
        own, in an epoch after the last. All ranks come here at the same point, and to `stood_alone`."""
        self._epoch_before = self.place.epoch
        self.place.epoch = self._ranks.first(self._epochs.of_a_pass(splits, self.place.epoch))

    def stood_alone(self) -> None:
        """That evaluation is over: all ranks know its samples. A training that goes on stands where it stood."""
        if self._epoch_before is not None:
            self._rows.flush(wait=True)
            self._ranks.gather(0)
            self._census.share(self.place.epoch)
            self.place.epoch, self._epoch_before = self._epoch_before, None

    def training_ends(self) -> None:
        """The epoch's last training batch is done: what follows is validation."""
        self._epochs.clock.training_ends()

    def _moment(self) -> Moment:
        is_validating = self.place.phase == "eval"
        return Moment(self.place.step, self.place.epoch, 1, is_validating, is_validating)

    def _log_step(self) -> None:
        """The mean loss since the last time; the one place in an epoch where a step waits for the device."""
        self._rows.flush_custom()
        losses, self._losses = self._losses, []
        if not losses or self._ranks.rank:
            return
        self._check_claim()
        mean = float(torch.stack(losses).float().mean())
        place = self.place
        write_step(self.run, step=place.step, epoch=place.epoch, attempt=self.attempt, loss=mean, lr=self._epochs.rate)

    def _ending(self, status: Status, message: str) -> Ending:
        return Ending(
            status=status,
            message=message,
            wall_s=time.monotonic() - self._began,
            epochs=len(epoch_rows(self.run)),
            global_step=self.place.step,
            classes=self.roster.classes,
            num_samples={split: int(self.roster.is_in(split).sum()) for split in SPLITS},
            num_devices=self._ranks.world_size,
        )
