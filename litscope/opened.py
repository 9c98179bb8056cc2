"""Run: a run's folder as an object, for notebooks and programs. `litscope.open_run` gives it; it needs no torch.

Each method is a command of the same name, with its defaults; tables are `pyarrow.Table`s, whose `.to_pandas()` makes
frames where pandas is installed. What trains or predicts imports torch when it is called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from litscope.console import warn
from litscope.defaults import NETWORK_FORMATS
from litscope.errors import ConfigError
from litscope.rundir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

    from litscope.curation.chosen import Chosen
    from litscope.curation.export import Exported
    from litscope.delivery.deliver import Delivered
    from litscope.evaluation.why import Why

Split = Literal["train", "val", "test"]
Strings = str | Sequence[str]
Numbers = int | Sequence[int]
Action = dict[str, Any]


def open_run(run: str | os.PathLike[str] | None = None) -> Run:
    """Open a run.

    Args:
        run: its folder, or its name below runs/; None: the newest there.

    Raises:
        RunError: if there is none.
    """
    from litscope.runs import newest_run

    return Run(newest_run() if run is None else RunDir.open(run))


class Run:
    """A run, finished or going on: what its samples look like to the model, and requests to it.

    Attributes:
        files: every file of the run by name.
    """

    def __init__(self, files: RunDir) -> None:
        self.files = files

    def __repr__(self) -> str:
        from litscope.curation.run_list import in_short

        return f"Run({in_short(self.files, self.summary)})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.files.path

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds; empty while the run goes on, and after it was killed."""
        if not self.files.summary.exists():
            return {}
        found: dict[str, Any] = json.loads(self.files.summary.read_text(encoding="utf-8"))
        return found

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of the best epoch, and those of the test set with its weights; empty as `summary`."""
        return dict(self.summary.get("metrics", {}).get("best", {}))

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of their indices."""
        from litscope.ledger.queries import classes

        return classes(self.files)

    # ---- asking --------------------------------------------------------------------------------

    def sql(self, query: str) -> pa.Table:
        """The answer to one SELECT over the run's views (`samples`, `signals`, `scores`, ...).

        Raises:
            ConfigError: if it is not one SELECT, or cannot be answered.
        """
        from litscope.ledger.views import sql

        return sql(self.files, query)

    def worst(
        self,
        n: int = 20,
        *,
        split: Split = "train",
        by: Literal["loss", "margin", "p_label"] = "loss",
        last_epochs: int = 5,
    ) -> pa.Table:
        """The `n` samples that the model finds hardest, by their mean over the last epochs.

        Returns:
            One row for each: sample_id, key, label_name, pred_name, mean, worst first.

        Raises:
            RunError: if the split was never recorded.
        """
        import pyarrow as pa

        from litscope.curation.worst import worst_samples

        return pa.Table.from_pylist(
            worst_samples(self.path, n, split=split, by=by, last_epochs=last_epochs, sheet=False).rows
        )

    def suspects(self, n: int | None = 20, *, split: Split = "train", with_decided: bool = False) -> pa.Table:
        """The samples whose label is probably wrong, most suspicious first; None: all that are ranked.

        Suspicion is a rank, not a probability: it says which samples to look at first. `p_label` beside it is the
        probability that the network gives the label, mean over the last epochs. While the network is still learning, a
        warning says that the order is not to be decided by.

        Returns:
            Columns as `ledger.suspects.Suspects.table`.

        Raises:
            RunError: if the split was never recorded, or no epoch is complete.
        """
        from litscope.ledger.suspects import suspects

        found = suspects(self.files, n, split=split, with_decided=with_decided)
        if found.warning is not None:
            warn(found.warning)
        return found.table

    def scores(self, split: Split | None = None) -> pa.Table:
        """What every sample's visits add up to, one row for each sample that was seen.

        `suspicion` is a rank in the split; `p_label` is a probability, the mean over the last epochs.

        Raises:
            LedgerError: if the signals cannot be read.
        """
        import pyarrow.compute as pc

        found = self.sql(
            "SELECT m.key, c.label_name, b.label_name AS believed_name, s.*, m.p_label FROM scores s "
            "JOIN samples m USING (sample_id) LEFT JOIN classes c ON c.label = s.label "
            "LEFT JOIN classes b ON b.label = s.believed_label "
            "ORDER BY s.sample_id"
        )
        return found if split is None else found.filter(pc.equal(found["split"], split))

    def sample(self, sample: str | int) -> dict[str, Any]:
        """Everything that the run knows about one sample: visits, scores, actions.

        Args:
            sample: its key, the end of it after a slash, or its id.
        """
        from litscope.ledger.lookup import describe_sample, find_sample

        return describe_sample(self.files, find_sample(self.files, str(sample)))

    def why(
        self,
        sample: str | int,
        of: str | None = None,
        *,
        checkpoint: str = "best",
        figure: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
    ) -> Why:
        """Draw which places of a sample's image speak for a class, by default the predicted one.

        Arguments and errors as `evaluation.why.why`.
        """
        from litscope.evaluation.why import why

        return why(self.path, sample, of, checkpoint, figure=figure, dataset=dataset)

    def actions(self) -> list[dict[str, Any]]:
        """What people asked of the run, oldest first: status (pending, applied, refused, undone), action, answer."""
        from litscope.ledger.journal.actions import entries

        return [{"status": e.status, "action": e.action, "answer": e.answer} for e in entries(self.files)]

    def evaluate(self, split: str | None = None, **options: Any) -> dict[str, Any]:
        """Measure the run on one split; arguments and result as `litscope.evaluate`."""
        from litscope.evaluation.evaluate import evaluate

        return evaluate(self.path, split, **options)

    def predict(self, paths: Any = (), **options: Any) -> pa.Table:
        """Predictions for new samples; arguments as `litscope.predict`. To predict often: `litscope.load(run)`.

        Returns:
            key, label where it is known, prediction, p_max, and p_<class> for each class.
        """
        from litscope.evaluation.predict import predict

        return predict(self.path, paths, **options).table

    def export(self, to: str, output: str | os.PathLike[str], **options: Any) -> Exported:
        """Write the curated data set: without discarded samples, with the labels that people gave.

        Args:
            to: csv, parquet, json, cleanlab, fiftyone, folder or actions.
            output: the file or folder.
            options: of `curation.export.Wanted`: dataset, data_dir, is_copied, overwrite.

        Raises:
            ConfigError: for another format, or where the output is taken.
        """
        from litscope.curation.export import Wanted, export

        if to in NETWORK_FORMATS:
            raise ConfigError(f"{to} is no form of the data set. The network leaves with run.export_model({output!r}).")
        return export(Wanted(self.files, Path(output), **options), to)

    def export_model(
        self,
        output: str | os.PathLike[str],
        to: Literal["onnx", "pt2", "safetensors"] | None = None,
        *,
        checkpoint: str = "best",
        dataset: str | None = None,
        data_dir: str | None = None,
        overwrite: bool = False,
    ) -> Delivered:
        """Write the trained network as one file for other programs; arguments and errors as `litscope.export_model`."""
        from litscope.delivery.deliver import export_model

        return export_model(self.path, output, to, checkpoint, dataset=dataset, data_dir=data_dir, overwrite=overwrite)

    # ---- acting --------------------------------------------------------------------------------

    def discard(
        self,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Leave samples out, from the next batch on.

        Args:
            where: a condition over the view `samples`, such as `key like 'night/%' and split = 'train'`.
            keys, ids: samples by name and by number; together with `where`, all of them.
            note: why; it is kept in the journal.
            wait_s: seconds to wait for the trainer's answer; None: 5 where a trainer may run, else 0.

        Raises:
            ConfigError: if no sample is named, or none would be left to train on.
        """
        from litscope.curation.chosen import require_rest, warn_of_evaluation

        chosen = self._choose(where, keys, ids)
        warn_of_evaluation(chosen)
        require_rest(chosen)
        return self._ask("discard", note, wait_s, **chosen.arguments)

    def restore(
        self,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Take discarded samples back in; arguments as `discard`."""
        from litscope.curation.chosen import warn_of_evaluation

        chosen = self._choose(where, keys, ids)
        warn_of_evaluation(chosen)
        return self._ask("restore", note, wait_s, **chosen.arguments)

    def relabel(
        self,
        to: str,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Give samples another label; the data set itself is not changed.

        Args:
            to: a class; `believed`: the one that the model believes each to be.
            where, keys, ids, note, wait_s: as `discard`.
        """
        from litscope.curation.chosen import label_argument, relabelled, warn_of_evaluation

        chosen, labels = relabelled(self._choose(where, keys, ids), to)
        warn_of_evaluation(chosen)
        return self._ask("relabel", note, wait_s, **chosen.arguments, label=label_argument(labels))

    def reweight(
        self,
        weight: float,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Multiply the loss of samples by a weight, 0 or more; other arguments as `discard`."""
        return self._ask("reweight", note, wait_s, **self._choose(where, keys, ids).arguments, weight=weight)

    def tag(
        self,
        name: str,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Give samples a name by which they can be found; other arguments as `discard`."""
        return self._ask("tag", note, wait_s, **self._choose(where, keys, ids).arguments, tag=name)

    def untag(
        self,
        name: str,
        where: str | None = None,
        *,
        keys: Strings = (),
        ids: Numbers = (),
        note: str = "",
        wait_s: float | None = None,
    ) -> Request:
        """Take a tag away from samples; other arguments as `discard`."""
        from litscope.curation.chosen import require_tag

        require_tag(self.files, name)
        return self._ask("untag", note, wait_s, **self._choose(where, keys, ids).arguments, tag=name)

    def undo(self, action_id: str | None = None, *, note: str = "", wait_s: float | None = None) -> Request:
        """Take back an action; None: the last one that can be taken back."""
        from litscope.ledger.journal.undoing import undo_target

        return self._ask("undo", note, wait_s, action=undo_target(self.files, action_id)["id"])

    def set(self, *, note: str = "", wait_s: float | None = None, **settings: Any) -> Request:
        """Change settings of a run that trains: ``run.set(lr=0.001, epochs=30)``."""
        return self._ask("set", note, wait_s, settings=settings)

    def pause(self, *, note: str = "", wait_s: float | None = None) -> Request:
        """Stop training for a while; `resume` ends the pause.

        Raises:
            RunError: if nothing is training.
        """
        return self._ask_trainer("pause", note, wait_s)

    def resume(self, *, note: str = "", wait_s: float | None = None) -> Request:
        """End a pause; errors as `pause`."""
        return self._ask_trainer("resume", note, wait_s)

    def stop(self, *, note: str = "", wait_s: float | None = None) -> Request:
        """End the run after this step as if it were complete; errors as `pause`."""
        return self._ask_trainer("stop", note, wait_s)

    def checkpoint(self, *, note: str = "", wait_s: float | None = None) -> Request:
        """Have the run write a checkpoint after this step; errors as `pause`."""
        return self._ask_trainer("checkpoint", note, wait_s)

    def _choose(self, where: str | None, keys: Strings, ids: Numbers) -> Chosen:
        from litscope.curation.chosen import choose

        if where is None and not keys and isinstance(ids, Sequence) and not len(ids):
            raise ConfigError("Say which samples: where='SQL condition', keys=[...] or ids=[...].")
        named = [keys] if isinstance(keys, str) else list(keys)
        return choose(self.files, where, named, list(ids) if isinstance(ids, Sequence) else [ids])

    def _ask(self, what: str, note: str, wait_s: float | None, **arguments: Any) -> Request:
        from litscope.ledger.journal.actions import request, submit, wait_for_answer
        from litscope.runs import WAIT_S, is_training

        action = request(what, why=note, **arguments)
        submit(self.files, action)
        if wait_s is None:
            wait_s = 0.0 if is_training(self.files) is False else WAIT_S
        return Request(action, wait_for_answer(self.files, action["id"], wait_s))

    def _ask_trainer(self, what: str, note: str, wait_s: float | None) -> Request:
        from litscope.runs import require_trainer

        require_trainer(self.files, what)
        return self._ask(what, note, wait_s)


class Request:
    """A request to a run, and what came of it.

    Attributes:
        action: the request, as in the journal.
        answer: the trainer's; None if none came in time: `Run.actions` shows it later.
    """

    def __init__(self, action: Action, answer: Action | None) -> None:
        self.action, self.answer = action, answer

    @property
    def status(self) -> str:
        """pending, applied or refused."""
        return "pending" if self.answer is None else str(self.answer["status"])

    def __repr__(self) -> str:
        from litscope.ledger.journal.describe import describe

        reason = f": {self.answer['reason']}" if self.answer and self.answer.get("reason") else ""
        return f"Request({self.action['id']} {describe(self.action)}, {self.status}{reason})"
