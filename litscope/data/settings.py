"""DataSettings: all that a data module is told: which samples, how they are split, and how they reach the device.

The keywords of `ClassificationData` are these fields. A recipe's fields of the same names are handed over by name. A
further setting is one more field here, with its range and its further names beside it. Words of torch's DataLoader that
have no meaning here are answered with a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from litscope.addresses import BETWEEN, hidden
from litscope.console import warn
from litscope.data.draws import Sampler
from litscope.data.reading.fits import Stretch
from litscope.data.sources.source import Source, open_source, require_shards
from litscope.data.sources.splits import Folds
from litscope.data.storage.store import use_endpoint
from litscope.data.transforms import Policy
from litscope.errors import ConfigError
from litscope.settings import COUNT, NOT_NEGATIVE, PART, SEED, SHARE, Range, by_own_names, setting, settle
from litscope.sizes import is_size
from litscope.types import Interpolation


@dataclass(frozen=True)
class DataSettings:
    """Which data set, and how it is fed to a network. Values are made plain and checked when it is made.

    Raises:
        ConfigError: for a value out of range, or neither or both of a data set and an open source.
    """

    dataset: str | os.PathLike[str] | None = None
    """A name, a folder, a CSV, Parquet or .npz file, or addresses of shards; see `sources.open_source`."""

    _: KW_ONLY

    # ---- which samples -------------------------------------------------------------------------
    use_webdataset: bool = False
    """The data are shards; `train_urls` says it too."""
    train_urls: str | Sequence[str] | None = None
    """Addresses of shards to train on, instead of a `dataset`, with braces: s3://bucket/train-{0000..0099}.tar."""
    val_urls: str | Sequence[str] | None = None
    """Addresses of shards that validate. Default: `val_split` of the samples to train on."""
    test_urls: str | Sequence[str] | None = None
    """Addresses of the test set's shards."""
    endpoint_url: str | None = None
    """The address of another S3 server than Amazon's. Default: $AWS_ENDPOINT_URL."""
    data_dir: str | os.PathLike[str] | None = setting(None, "data-root")
    """Where named data sets are, or are downloaded to; default data/. Without a `dataset` this folder is the data."""
    download: bool = True
    """Download a named data set that is not there."""
    target: str | None = None
    """The label column of a table. Default: `label`, `target` or `class`."""
    val_split: float = setting(0.1, check=SHARE)
    """Share of the training data that validates, where the data bring no such split."""
    test_split: float = setting(0.0, check=SHARE)
    """Share of the data set aside as test set, where the data bring none."""
    group_column: str | None = None
    """Column whose rows of one value stay in one split, or "none". Default: `group` where a list of images has it."""
    image_column: str | None = None
    """The column of paths in a list of images; "none": the file is a table. Default: by its name and values."""
    image_root: str | os.PathLike[str] | None = None
    """The folder that relative paths of a list start from. Default: that of the list."""
    channels: Literal["first", "last"] | None = None
    """The axis of images in .npz and .npy files that is the channels. Default: as their shape says."""
    positive_class: str | None = None
    """The positive one of two classes, which then is the second. Default: the second as their names are ordered."""
    soft_label_column: str | Sequence[str] | None = None
    """The column of a CSV or Parquet file with a grade of each row, or a column for each class; see `soft_labels`."""
    soft_label_max: float | None = setting(None, check=Range(above=0))
    """The grade that is certain. Default: the largest, and 1 where none is above it."""
    fits_stretch: Stretch | None = None
    """How FITS images become numbers from 0 to 1; see `reading.fits`. Default: asinh."""
    fits_limits: Sequence[float] | None = None
    """The values of FITS images that become 0 and 1. Default: of each band by itself."""
    folds: Folds | None = None
    """The folds of a cross-validation, instead of `val_split`."""
    seed: int = setting(42, check=SEED)
    """Seed of splits, order and augmentation."""
    source: Source | None = None
    """An open source, instead of all of the above."""

    # ---- how they reach the device -------------------------------------------------------------
    sampler: Sampler = "uniform"
    """How an epoch draws training samples: each once, or `balanced` or `weighted`; see `draws`."""
    shuffle_window: str | None = setting(None, check=is_size)
    """Of shards, the stored bytes from which an epoch draws at a time; see `pieces`. Default: 1G."""
    batch_size: int = setting(64, check=COUNT)
    """Samples per step and device."""
    num_workers: int | None = setting(None, check=NOT_NEGATIVE)
    """Threads that decode images. Default: one per core (and device)."""
    pin_memory: bool | None = None
    """Page-locked batches. Default: when the trainer's device is a GPU."""
    image_size: int | None = setting(None, check=COUNT)
    """Side of the square that the network sees. Default: from the images."""
    crop_pct: float | None = setting(None, check=PART)
    """The share of an image's shorter side that the network sees in evaluation, cropped in the middle. Default: 224/256
    from 128 pixels on, else all."""
    interpolation: Interpolation | None = None
    """How images are resampled to their size. Default: bilinear."""
    augment: Policy = setting("default", "augmentation")
    """The policy by which training images change; see `transforms`."""
    crop_padding: int | None = setting(None, check=NOT_NEGATIVE)
    """Pixels around a small image before it is cropped; see `transforms`."""
    cache: bool | None = None
    """Decode once into a memory map. Default: when it fits in memory and on the disk."""
    cache_dir: str | os.PathLike[str] | None = None
    """Default: $LITSCOPE_CACHE, else ~/.cache/litscope."""
    cache_size: str | None = setting(None, check=is_size)
    """Bytes of shards elsewhere kept on the disk. Default: with `cache_dir` a quarter of its disk, else none."""
    storage_timeout: float = setting(600.0, check=NOT_NEGATIVE)
    """Seconds for which a server that does not answer is asked again."""
    strict_data: bool = False
    """Raise for the first unreadable file, instead of setting it aside."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """Leave samples out that cannot be read, up to 1 % of those of a pass; or raise for the first, as `strict_data`."""
    mixup: float = setting(0.0, check=NOT_NEGATIVE)
    """Alpha of mixup; 0 is off."""
    cutmix: float = setting(0.0, check=NOT_NEGATIVE)
    """Alpha of CutMix; 0 is off."""
    use_distributed_sampler: bool = True
    """Each rank gets its own share; False gives every rank all of it."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("dataset", *_URLS):
            given = getattr(self, name)
            if given is not None:
                text = os.fspath(given) if isinstance(given, str | os.PathLike) else BETWEEN.join(map(str, given))
                object.__setattr__(self, name, hidden(text))
        self._check_named()

    def _check_named(self) -> None:
        if self.source is not None and self.train_urls is not None:
            object.__setattr__(self, "train_urls", None)  # a recipe's, which has been opened
        if self.train_urls is None and self.source is None:
            for name in ("val_urls", "test_urls"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name}={getattr(self, name)!r}: there are no train_urls to go with it.")
        if self.train_urls is not None and self.dataset is not None:
            raise ConfigError("ClassificationData needs either a dataset or train_urls, not both.")
        if (self.dataset or self.data_dir or self.train_urls) is None and self.source is None:
            raise ConfigError(
                "ClassificationData needs either a dataset, or a data_dir (data_root), or an open source."
            )
        if self.dataset is not None and self.source is not None:
            raise ConfigError("ClassificationData needs either a dataset or an open source, not both.")

    @classmethod
    def of_keywords(cls, given: Mapping[str, Any]) -> DataSettings:
        """The settings of a call, by the fields' names, their further names, and words of torch's DataLoader.

        Raises:
            ConfigError: for a name that there is not, or a value that cannot be.
        """
        ours = {}
        for name, value in given.items():
            if name == "sampler" and not isinstance(value, str):  # torch's, of which None says nothing
                if value is not None:
                    raise ConfigError(f"ClassificationData: sampler={value!r}: {_NO_OBJECT}")
            elif name in DONE_OTHERWISE:
                _say_once(name)
            elif name in NOT_WANTED and value != NOT_WANTED[name][0]:
                raise ConfigError(f"ClassificationData: {name}={value!r}: {NOT_WANTED[name][1]}. Leave it out.")
            elif name not in NOT_WANTED:
                ours[name] = value
        return cls(**by_own_names(cls, ours, "ClassificationData"))

    @property
    def cache_folder(self) -> Path | None:
        """Where caches lie; None for the usual place."""
        return None if self.cache_dir is None else Path(self.cache_dir)

    @property
    def stops_at_bad_data(self) -> bool:
        """Whether the first sample that cannot be read is an error."""
        return self.strict_data or self.on_bad_data == "stop"

    def open_source(self) -> Source:
        """The source that was given, or that of the data set.

        Raises:
            DataError: if it cannot be used.
        """
        if self.source is not None:
            return self.source
        folder = Path(self.data_dir or "data").expanduser()
        use_endpoint(self.endpoint_url)
        urls = ((name.removesuffix("_urls"), getattr(self, name)) for name in _URLS)
        shards = BETWEEN.join(f"{split}={texts}" for split, texts in urls if texts) if self.train_urls else None
        source = open_source(
            self.dataset or shards or folder.absolute(),  # absolute: `digits` would be the named data set
            data_dir=folder,
            download=self.download,
            target=self.target,
            val_split=self.val_split,
            test_split=self.test_split,
            group_column=self.group_column,
            image_column=self.image_column,
            image_root=self.image_root,
            channels=self.channels,
            positive_class=self.positive_class,
            soft_label_column=[named] if isinstance(named := self.soft_label_column or [], str) else named,
            soft_label_max=self.soft_label_max,
            fits_stretch=self.fits_stretch,
            fits_limits=self.fits_limits or (),
            seed=self.seed,
            folds=self.folds,
            cache_dir=self.cache_folder,
        )
        if self.use_webdataset:
            require_shards(source)
        return source


_URLS = ("train_urls", "val_urls", "test_urls")


DONE_OTHERWISE = {
    "persistent_workers": "the threads that decode live as long as the run",
    "prefetch_factor": "the threads decode ahead as far as keeps them busy",
    "multiprocessing_context": "images are decoded by threads, and no process is started",
    "pin_memory_device": "batches are pinned for the trainer's device",
    "in_order": "batches always come in the seed's order",
    "timeout": "no worker process can hang",
}
"""Words of torch's DataLoader that may be left out -> who does their job."""

NOT_WANTED: dict[str, tuple[Any, str]] = {
    "shuffle": (True, "training samples come in an order that each epoch and the seed decide, all others in theirs"),
    "drop_last": (False, "every sample is seen in every epoch"),
    "batch_sampler": (None, "which samples come is decided by the splits, and by what people discard"),
    "collate_fn": (None, "batches are made in one piece"),
    "worker_init_fn": (None, "no worker process is started, and random numbers are hashes of the seed and the sample"),
    "generator": (None, "random numbers are hashes of the seed and the sample; give seed"),
}
"""Further words of it -> the value that says nothing new, and why there is no other."""


_NO_OBJECT = (
    "it is a word, uniform, balanced or weighted: a sampler of torch does not know who was discarded. Leave it out."
)


@cache
def _say_once(word: str) -> None:
    warn(f"ClassificationData: {word} changes nothing: {DONE_OTHERWISE[word]}")
