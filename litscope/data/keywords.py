"""DataKeywords: the keywords of `litscope.ClassificationData`, for type checkers.

Written by `scripts/keywords.py` from the tables of settings; to change it, change those.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

from litscope.data.sources.source import Source
from litscope.data.sources.splits import Folds


class DataKeywords(TypedDict, total=False):
    """The fields of `DataSettings` but `dataset`, their further names, and words of torch's DataLoader."""

    use_webdataset: bool
    """The data are shards; `train_urls` says it too."""
    train_urls: str | Sequence[str] | None
    """Addresses of shards to train on, instead of a `dataset`, with braces: s3://bucket/train-{0000..0099}.tar."""
    val_urls: str | Sequence[str] | None
    """Addresses of shards that validate. Default: `val_split` of the samples to train on."""
    test_urls: str | Sequence[str] | None
    """Addresses of the test set's shards."""
    endpoint_url: str | None
    """The address of another S3 server than Amazon's. Default: $AWS_ENDPOINT_URL."""
    data_dir: str | os.PathLike[str] | None
    """Where named data sets are, or are downloaded to; default data/. Without a `dataset` this folder is the data."""
    data_root: str | os.PathLike[str] | None
    """The same as `data_dir`."""
    download: bool
    """Download a named data set that is not there."""
    target: str | None
    """The label column of a table. Default: `label`, `target` or `class`."""
    val_split: float
    """Share of the training data that validates, where the data bring no such split."""
    test_split: float
    """Share of the data set aside as test set, where the data bring none."""
    group_column: str | None
    """Column whose rows of one value stay in one split, or "none". Default: `group` where a list of images has it."""
    image_column: str | None
    """The column of paths in a list of images; "none": the file is a table. Default: by its name and values."""
    image_root: str | os.PathLike[str] | None
    """The folder that relative paths of a list start from. Default: that of the list."""
    channels: Literal["first", "last"] | None
    """The axis of images in .npz and .npy files that is the channels. Default: as their shape says."""
    positive_class: str | None
    """The positive one of two classes, which then is the second. Default: the second as their names are ordered."""
    soft_label_column: str | Sequence[str] | None
    """The column of a CSV or Parquet file with a grade of each row, or a column for each class; see `soft_labels`."""
    soft_label_max: float | None
    """The grade that is certain. Default: the largest, and 1 where none is above it."""
    fits_stretch: Literal["asinh", "zscale", "linear", "log"] | None
    """How FITS images become numbers from 0 to 1; see `reading.fits`. Default: asinh."""
    fits_limits: Sequence[float] | None
    """The values of FITS images that become 0 and 1. Default: of each band by itself."""
    folds: Folds | None
    """The folds of a cross-validation, instead of `val_split`."""
    seed: int
    """Seed of splits, order and augmentation."""
    source: Source | None
    """An open source, instead of all of the above."""
    sampler: Literal["uniform", "balanced", "weighted"]
    """How an epoch draws training samples: each once, or `balanced` or `weighted`; see `draws`."""
    shuffle_window: str | None
    """Of shards, the stored bytes from which an epoch draws at a time; see `pieces`. Default: 1G."""
    batch_size: int
    """Samples per step and device."""
    num_workers: int | None
    """Threads that decode images. Default: one per core (and device)."""
    pin_memory: bool | None
    """Page-locked batches. Default: when the trainer's device is a GPU."""
    image_size: int | None
    """Side of the square that the network sees. Default: from the images."""
    crop_pct: float | None
    """The share of an image's shorter side that the network sees in evaluation, cropped in the middle. Default:
    224/256 from 128 pixels on, else all.
    """
    interpolation: Literal["bilinear", "bicubic"] | None
    """How images are resampled to their size. Default: bilinear."""
    augment: Literal["none", "default", "strong", "autoaugment"]
    """The policy by which training images change; see `transforms`."""
    augmentation: Literal["none", "default", "strong", "autoaugment"]
    """The same as `augment`."""
    crop_padding: int | None
    """Pixels around a small image before it is cropped; see `transforms`."""
    cache: bool | None
    """Decode once into a memory map. Default: when it fits in memory and on the disk."""
    cache_dir: str | os.PathLike[str] | None
    """Default: $LITSCOPE_CACHE, else ~/.cache/litscope."""
    cache_size: str | None
    """Bytes of shards elsewhere kept on the disk. Default: with `cache_dir` a quarter of its disk, else none."""
    storage_timeout: float
    """Seconds for which a server that does not answer is asked again."""
    strict_data: bool
    """Raise for the first unreadable file, instead of setting it aside."""
    on_bad_data: Literal["skip", "stop"]
    """Leave samples out that cannot be read, up to 1 % of those of a pass; or raise for the first, as `strict_data`."""
    mixup: float
    """Alpha of mixup; 0 is off."""
    cutmix: float
    """Alpha of CutMix; 0 is off."""
    use_distributed_sampler: bool
    """Each rank gets its own share; False gives every rank all of it."""
    persistent_workers: object
    """Of torch's DataLoader; it changes nothing: the threads that decode live as long as the run."""
    prefetch_factor: object
    """Of torch's DataLoader; it changes nothing: the threads decode ahead as far as keeps them busy."""
    multiprocessing_context: object
    """Of torch's DataLoader; it changes nothing: images are decoded by threads, and no process is started."""
    pin_memory_device: object
    """Of torch's DataLoader; it changes nothing: batches are pinned for the trainer's device."""
    in_order: object
    """Of torch's DataLoader; it changes nothing: batches always come in the seed's order."""
    timeout: object
    """Of torch's DataLoader; it changes nothing: no worker process can hang."""
    shuffle: Literal[True]
    """Of torch's DataLoader: training samples come in an order that each epoch and the seed decide, all others in
    theirs.
    """
    drop_last: Literal[False]
    """Of torch's DataLoader: every sample is seen in every epoch."""
    batch_sampler: None
    """Of torch's DataLoader: which samples come is decided by the splits, and by what people discard."""
    collate_fn: None
    """Of torch's DataLoader: batches are made in one piece."""
    worker_init_fn: None
    """Of torch's DataLoader: no worker process is started, and random numbers are hashes of the seed and the sample."""
    generator: None
    """Of torch's DataLoader: random numbers are hashes of the seed and the sample; give seed."""
