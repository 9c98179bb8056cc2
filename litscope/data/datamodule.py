"""ClassificationData: any data set that litscope reads, as a LightningDataModule.

    data = ClassificationData("data/processed", batch_size=64, num_workers=8, image_size=224)
    L.Trainer(max_epochs=5).fit(Classifier(arch="resnet18"), datamodule=data)

Stored bytes reach the network in three steps: a loader gathers (or threads decode) uint8 pixels
at one stored size, Lightning moves them to the device, and `on_after_batch_transfer` augments
them there. The position in the epoch is kept in the checkpoint, so a run resumes exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any, Self, Unpack

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from litscope.data.draws import Draws
from litscope.data.gather_loader import GatherLoader
from litscope.data.keywords import DataKeywords
from litscope.data.loader import Loader
from litscope.data.manifest import Manifest
from litscope.data.opened import open_data
from litscope.data.overlay import Overlay
from litscope.data.preflight import Report
from litscope.data.pruning import Pruning
from litscope.data.resident import DeviceRows
from litscope.data.sample_facts import SampleFacts
from litscope.data.sampler import EpochOrder, Ids, num_steps
from litscope.data.settings import DataSettings
from litscope.data.small_loss import SmallLoss
from litscope.data.sources.source import Source
from litscope.data.stored import Normalization, squares
from litscope.data.stream_loader import StreamLoader
from litscope.errors import DataError
from litscope.lightning_internals import is_overfitting
from litscope.limits import num_cores
from litscope.starter import share_of_cores
from litscope.types import Batch


class ClassificationData(L.LightningDataModule):
    """Training, validation and test batches of one data set.

    Args: the fields of `settings.DataSettings`, also by their further names (`data_root`).

    Attributes:
        settings: what was given.
        batch_size: samples per step and device, from the next epoch on.
        pruning: what training epochs leave out; None: nothing. Set by who tells it losses and plans its epochs.
        selection: which training samples count in an epoch; None: all. Set and told as `pruning` is.
        stride: how many training batches to hand over as one stack, where they lie in memory (see
            `gather_loader.GatherLoader`); None hands over one at a time.

        regroups: see `loader.Loader`.

    Attributes after `open`, which Lightning's `setup` calls:
        source, manifest, kind, classes, num_classes, report: what was found.
        in_channels, image_size: of images.
        num_features: of tables.
        train_ids, val_ids, test_ids: (n,) int64 sample ids, labelled and readable in the manifest.
        overlay: what people changed since: labels, weights, discards. The loaders follow it.
        normalization: (mean, std), one number per channel (in [0, 1] for uint8 images) or feature,
            of the training samples; with `left_out` a list of these for each fold, of the samples outside it.
        features: (N, F) what was handed over in place of the images (`use_features`), as they are evaluated; else None.
        left_out: (N,) int64, the fold of each sample, which is the member that does not train on it; None unless
            there are folds and none of them validates.

    Raises:
        ConfigError: for a setting that there is not, or a value out of range.
    """

    source: Source
    manifest: Manifest
    kind: str
    classes: tuple[str, ...]
    num_classes: int
    report: Report
    in_channels: int
    num_features: int
    train_ids: Ids
    val_ids: Ids
    test_ids: Ids
    overlay: Overlay

    def __init__(self, dataset: str | os.PathLike[str] | None = None, **given: Unpack[DataKeywords]) -> None:
        super().__init__()
        words = {**given, **({} if dataset is None else {"dataset": dataset})}
        self.settings = settings = DataSettings.of_keywords(words)
        self.batch_size = settings.batch_size
        self.image_size = settings.image_size
        self.seed = settings.seed
        self.pruning: Pruning | None = None
        self.selection: SmallLoss | None = None
        self._is_open = self.regroups = False
        self.stride: Callable[[int, int], int] | None = None
        self.left_out: Tensor | None = None
        self._first_row: Callable[[int], int] | None = None
        self._position: dict[str, Any] | None = None
        self._train_loader: Loader | None = None
        self._loaders: list[Loader] = []
        self._device_rows = DeviceRows()
        self.features: NDArray[np.float16] | None = None

    # ---- what is there -----------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Download and decode, once per machine (Lightning calls it on one process)."""
        self.open()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Open the data on every process."""
        self.open()

    def open(self, progress: bool = False) -> Self:
        """Find the data, check them, and fill in the attributes; a second call does nothing.

        Args:
            progress: draw a bar while the files are looked at.

        Raises:
            DataError: if the data cannot be used.
        """
        if self._is_open:
            return self
        self._opened = self._as_found = opened = open_data(self.settings, progress)
        self.source, self.manifest, self.report = opened.source, opened.manifest, opened.report
        self.kind = self.source.kind
        self.classes = self.manifest.classes
        self.num_classes = len(self.classes)
        self.overlay = Overlay(self.manifest.labels, self.settings.sampler == "weighted", self.source.soft_labels)
        self.train_ids, self.val_ids, self.test_ids = (
            self.readable(self.manifest.ids(split)) for split in ("train", "val", "test")
        )
        if self.kind == "image":
            self.in_channels, self.image_size = self.source.reader.channels, opened.stored.seen
        else:
            self.num_features = self.source.reader.channels
        self._transform = opened.transform(self.settings)
        if self.source.folds is not None:
            self.left_out = torch.from_numpy(self.source.folds)
        self._is_open = True
        return self

    @cached_property
    def normalization(self) -> tuple[Normalization, Normalization]:
        """See above. Measured when somebody asks: weights from elsewhere bring their own."""
        return self._as_found.normalization()

    @property
    def sample_facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the opened data, so that it alone can predict; see `sample_facts`."""
        return {**SampleFacts.of(self.manifest).to_dict(), "batch_size": self.settings.batch_size}

    @property
    def is_resident(self) -> bool:
        """Whether the opened data lie in memory or in a memory map, so that a batch is a gather."""
        return self._opened.stored.rows is not None

    def use_features(self, views: Sequence[NDArray[np.float16]]) -> None:
        """Hand over what a frozen network makes of the images, instead of the images.

        Args:
            views: (N, F) each, row i of sample_id i. The first is that of the images as they are evaluated; training
                epochs take turns with the others, where there are any.
        """
        self.features = views[0]
        stored, num_samples = self._opened.stored, len(views[0])
        rows = views[0] if len(views) == 1 else np.concatenate(views)
        self._opened = replace(self._opened, stored=replace(stored, array=rows, cache=None))
        turns = len(views) - 1
        self._first_row = (lambda epoch: (1 + epoch % turns) * num_samples) if turns else None

    def view_batch(self, batch: Batch, view: int | None) -> Batch:
        """A batch of images on its device as epoch `view` shows them in training, unmixed; None: in evaluation."""
        return self._transform.evaluation(batch) if view is None else self._transform.augmented(batch, view)

    def example_batch(self, num_batches: int, device: torch.device) -> Batch:
        """A stack of training batches as the network gets it, on `device`, for measuring; nothing moves on."""
        loader = self._train_loader
        assert isinstance(loader, GatherLoader)
        return self.training_batch(self.transfer_batch_to_device(loader.example(num_batches), device, 0), 0, 0)

    def example_images(self, count: int) -> Tensor:
        """(n, K, T, T) float32 in [0, 1], or in their own unit: the first training images as they are evaluated.

        With several processes each gets a share of its own.
        """
        loader = self.dataloader_of(self.active_ids("train")[:count])
        assert isinstance(loader, Loader)
        images = [self.evaluation_batch(batch)["image"] for batch in loader]
        self.release(loader)
        return torch.cat(images)

    def readable(self, ids: Ids) -> Ids:
        """The `ids` whose files can be read, ascending."""
        return self._opened.readable(ids)

    def active_ids(self, split: str) -> Ids:
        """(n,) int64, ascending: the readable samples of a split that have a label now and are not discarded."""
        return self.overlay.active(self.readable(self.manifest.ids(split, labelled=False)))

    def epoch_ids(self) -> Ids:
        """(n,) int64, ascending: the active training samples that the current epoch does not leave out, or may draw."""
        ids = self.active_ids("train")
        draws = self.draws()
        if draws is not None:
            return ids[draws.shares(ids) > 0]
        return ids if self.pruning is None else self.pruning.kept(ids)

    def class_shares(self) -> list[float]:
        """(C,) how much of what training draws now is of each class, in samples."""
        ids, draws = self.active_ids("train"), self.draws()
        labels = self.overlay.labels.numpy()[ids]
        shares = np.ones(len(ids)) if draws is None else draws.shares(ids)
        found: list[float] = np.bincount(labels, shares / shares.mean(), minlength=self.num_classes).tolist()
        return found

    def draws(self) -> Draws | None:
        """How an epoch that begins now draws its samples; None: each once."""
        how, overlay = self.settings.sampler, self.overlay
        if how == "uniform":
            return None
        labels = overlay.labels.numpy().copy()
        if how == "balanced":
            return Draws(labels)
        weights = np.ones(len(labels)) if overlay.weights is None else overlay.weights.numpy().astype(np.float64)
        return Draws(labels, weights)

    def num_batches(self, num_samples: int) -> int:
        """Batches on each rank in an epoch of this many training samples."""
        steps = num_steps(num_samples, self.batch_size, self._rank()[1])
        limit = _limit(self.trainer, steps)
        return steps if limit is None else min(steps, limit)

    @property
    def flips(self) -> bool:
        """Whether mirrored images keep their meaning; see `Opened.flips`."""
        return self._opened.flips

    # ---- loaders -----------------------------------------------------------------------------

    def train_dataloader(self) -> Loader:
        """Training batches in the seed's order, from the position of the checkpoint when resuming."""
        self.open()
        rank, world = self._rank()
        ids = self.epoch_ids()
        if len(ids) < world:
            raise DataError(f"{len(ids)} training samples cannot be shared by {world} devices.")
        trainer = self.trainer
        order = EpochOrder(ids, self.batch_size, self.seed, True, rank, world, self.draws(), self._opened.pieces)
        if self._overfits():
            order = EpochOrder(order.epoch_ids(0), self.batch_size, self.seed, False, rank, world)
        epoch = 0 if trainer is None else trainer.current_epoch
        limit = _limit(trainer, len(order))
        if self._train_loader is not None and self._train_loader in self._loaders:
            self._train_loader.start_over(order, epoch, limit)
        else:
            self._train_loader = self._loader(order, epoch=epoch, limit=limit)
        if isinstance(self._train_loader, GatherLoader):
            self._train_loader.stride, self._train_loader.first_row = self.stride, self._first_row
        self._train_loader.regroups = self.regroups
        if self._position is not None:
            self._train_loader.load_state_dict(self._position)
            self._position = None
        return self._train_loader

    def val_dataloader(self) -> Loader | list[Loader]:
        """The active samples of the validation split, in order; with `overfit_batches`, the training batches."""
        self.open()
        if self._overfits():
            order = EpochOrder(self.active_ids("train"), self.batch_size, self.seed, nearby=self._opened.pieces)
            return self._in_order(order.epoch_ids(0))
        return self._in_order(self.active_ids("val"))

    def test_dataloader(self) -> Loader | list[Loader]:
        """The active samples of the test split, in order; see `active_ids`."""
        self.open()
        return self._in_order(self.active_ids("test"))

    def dataloader_of(self, ids: Ids) -> Loader | list[Loader]:
        """These samples in the order given, each rank its share; for `evaluation_batch`, not for training."""
        self.open()
        return self._in_order(ids)

    def redraw(self) -> bool:
        """Have the current epoch follow the overlay: it decides which samples are drawn from the next batch on.

        Returns:
            As `Loader.redraw`; False also between epochs.
        """
        loader = self._train_loader
        if loader is None or not loader.batches_done:
            return False
        ids = self.overlay.active(loader.order.ids) if self._overfits() else self.epoch_ids()
        return loader.redraw(ids, self.draws())

    def predict_dataloader(self, source: Source | None = None) -> Loader | list[Loader]:
        """Every row of `source` (by default of this data set, labelled or not), in order, for `evaluation_batch`.

        Raises:
            DataError: if the source is of another kind, or has other channels or another number of features.
        """
        self.open()
        if source is None:
            return self._in_order(np.setdiff1d(self.manifest.sample_ids, self.report.unreadable_ids))
        reader = source.reader
        if (source.kind, reader.channels) != (self.kind, self.source.reader.channels):
            raise DataError(
                f"{source.name} is of kind {source.kind} with {reader.channels} channels or features, "
                f"the training data {self.kind} with {self.source.reader.channels}."
            )
        rows = reader.array
        if rows is not None and self.kind == "image":
            rows = squares(rows, self._opened.stored.side, self._opened.stored.interpolation)
        order = EpochOrder(source.manifest.sample_ids, self.batch_size, self.seed, False, *self._rank())
        return self._loader(order, of=source, rows=rows)

    def _in_order(self, ids: Ids) -> Loader | list[Loader]:
        if not len(ids):
            return []
        return self._loader(EpochOrder(ids, self.batch_size, self.seed, False, *self._rank()))

    def _loader(
        self,
        order: EpochOrder,
        *,
        of: Source | None = None,
        rows: NDArray[Any] | None = None,
        epoch: int = 0,
        limit: int | None = None,
    ) -> Loader:
        """A loader over `rows` in memory where there are any, else over the files of the source."""
        source, rows = (self.source, self._opened.stored.rows) if of is None else (of, rows)
        overlay = self.overlay if of is None else Overlay(of.manifest.labels)
        loader: Loader
        if rows is not None:
            data: NDArray[Any] | Tensor = rows
            # Only a fit passes over the rows more than once; a single pass would not pay for a copy of them.
            if of is None and self.trainer is not None and self.trainer.state.fn == "fit":
                data = self._device_rows.of(rows, self.trainer.strategy.root_device)
            loader = GatherLoader(order, data, overlay, pin_memory=self._pins(), epoch=epoch, limit=limit)
        else:
            loader = StreamLoader(
                order,
                source.reader,
                self._opened.stored.side,
                overlay,
                num_workers=self._workers(),
                pin_memory=self._pins(),
                strict=self.settings.stops_at_bad_data,
                most_broken=None if of is not None else max(1, len(order.ids) // (100 * order.world)),
                interpolation=self._opened.stored.interpolation,
                epoch=epoch,
                limit=limit,
            )
        self._loaders.append(loader)
        return loader

    def release(self, loader: Loader) -> None:
        """End the threads of a loader that is no longer needed."""
        loader.close()
        self._loaders.remove(loader)

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """End the decoding threads of all loaders."""
        while self._loaders:
            self._loaders.pop().close()
        self._device_rows = DeviceRows()

    def on_exception(self, exception: BaseException) -> None:  # noqa: ARG002 - Lightning's signature
        """Tear down, which Lightning does not do after an exception."""
        self.teardown()

    def _workers(self) -> int:
        if self.settings.num_workers is not None:
            return self.settings.num_workers
        return share_of_cores(num_cores(), 1 if self.trainer is None else self.trainer.num_devices)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None or not self.settings.use_distributed_sampler:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _overfits(self) -> bool:
        return self.trainer is not None and is_overfitting(self.trainer)

    def _pins(self) -> bool:
        if self.settings.pin_memory is not None:
            return self.settings.pin_memory and torch.cuda.is_available()
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    @property
    def waited_s(self) -> float:
        """Seconds that training has waited for batches so far."""
        return 0.0 if self._train_loader is None else self._train_loader.waited_s

    # ---- the position in the epoch -----------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The training loader's position and the overlay; Lightning keeps them in the checkpoint."""
        return {} if self._train_loader is None else {"train": self.position(), "overlay": self.overlay.state()}

    @property
    def is_regrouped(self) -> bool:
        """Whether the epoch that runs was taken up in its middle, with steps of another size."""
        return self._train_loader is not None and self._train_loader.is_regrouped

    def position(self) -> dict[str, Any]:
        """Where the training loader stands; see `Loader.state_dict`."""
        assert self._train_loader is not None
        return self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the position for the next `train_dataloader`. (Testing a checkpoint also comes here: passed over.)"""
        if self.trainer is None or self.trainer.state.fn == "fit":
            self.open()
            self._position = state_dict.get("train")
            self.overlay.load_state(state_dict.get("overlay", {}))

    # ---- from the device's pixels to the network's input -------------------------------------

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Move each tensor, without waiting for a GPU; on the CPU there is nothing to do."""
        if device.type == "cpu":
            return batch
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}  # type: ignore[return-value, attr-defined]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Augment training batches; give all others the evaluation transform."""
        trainer = self.trainer
        assert trainer is not None
        if trainer.training:
            assert self._train_loader is not None
            batch = self.training_batch(batch, *self._train_loader.last)
        else:
            batch = self.evaluation_batch(batch)
        return trainer.precision_plugin.convert_input(batch)  # type: ignore[no-any-return]

    def training_batch(self, batch: Batch, epoch: int, number: int) -> Batch:
        """A batch on its device as the network gets it in training; see `BatchTransform.training`."""
        batch = self._transform.training(batch, epoch, number)
        if self.left_out is not None:
            self.left_out = self.left_out.to(batch["sample_id"].device)
            batch["left_out"] = self.left_out[batch["sample_id"]]
        return batch

    def evaluation_batch(self, batch: Batch) -> Batch:
        """A batch on its device as the network gets it in evaluation: centre crop, float."""
        return self._transform.evaluation(batch)


# For `help` and notebooks.
ClassificationData.__signature__ = signature(DataSettings)  # type: ignore[attr-defined]


def _limit(trainer: L.Trainer | None, num_batches: int) -> int | None:
    """Batches of an epoch that the trainer will ask for."""
    if trainer is None:
        return None
    limit = trainer.limit_train_batches
    return limit if isinstance(limit, int) else int(num_batches * limit)
