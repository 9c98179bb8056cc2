"""The `data` section of a recipe: which samples, how they are split, how they reach the device. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from litscope.addresses import BETWEEN
from litscope.config.section import Section, is_folder, refuse
from litscope.errors import ConfigError
from litscope.settings import COUNT, NOT_NEGATIVE, PART, SEED, SHARE, Range, setting
from litscope.sizes import is_size
from litscope.types import Interpolation


@dataclass
class DataConfig(Section, group="data"):
    """Which samples, how they are split, and how they reach the device."""

    dataset: str | None = setting(None, is_address=True)
    """A name (digits, iris, breast_cancer, mnist, fashion_mnist, cifar10, cifar100, svhn), a folder, a CSV,
    Parquet or .npz file, or shards: a folder or s3://bucket/prefix/."""
    use_webdataset: bool = False
    """Train on shards: the tar files that --train-urls names."""
    train_urls: str | None = setting(None, takes=(Sequence[str],), is_for_images=True, is_address=True)
    """Shards to train on: paths or URLs (file, http, https, s3, gs), also with braces, train-{0000..0099}.tar; `::`
    stands between several."""
    val_urls: str | None = setting(None, takes=(Sequence[str],), is_for_images=True, is_address=True)
    """Shards that validate. Default: --val-split of the samples to train on."""
    test_urls: str | None = setting(None, takes=(Sequence[str],), is_for_images=True, is_address=True)
    """Shards of the test set."""
    endpoint_url: str | None = setting(None, is_address=True)
    """Shards: the address of another S3 server than Amazon's, http://host:port. Default: $AWS_ENDPOINT_URL."""
    data_dir: str = setting("data", "data-root", takes=(os.PathLike,))
    """Where named data sets are, or are downloaded to. Without a data set, the folder is the data."""
    download: bool = True
    """Download a named data set that is not under the data folder."""
    target: str | None = None
    """Tables: the column that holds the label. Default: `label`, `target` or `class`."""
    val_split: float = setting(0.1, check=SHARE)
    """Share of the training data used for validation when the data bring no validation split, in [0, 1)."""
    test_split: float = setting(0.0, check=SHARE)
    """Share of the data set aside as test set when the data bring none, in [0, 1)."""
    num_folds: int | None = setting(None, check=Range(least=2))
    """Cross-validation: divide the training and validation data into this many folds, instead of --val-split."""
    fold: int | None = setting(None, check=Range(least=0))
    """The fold that validates, from 0. Default: with as many --num-members as folds, each member leaves one out."""
    fold_tests: bool = False
    """The fold tests instead of validating, and --val-split is drawn from the others: the fold chooses nothing then."""
    split_seed: int | None = setting(None, check=SEED)
    """Seed of the splits alone. Default: the training seed."""
    group_column: str | None = None
    """Column whose rows of one value stay in one split, or `none`. Default: `group` where a list of images has it."""
    image_column: str | None = None
    """Lists of images: the column of their paths; `none`: the file is a table. Default: by its name and values."""
    image_root: str | None = setting(None, takes=(os.PathLike,))
    """Lists of images: the folder that relative paths start from. Default: that of the list."""
    channels: Literal["first", "last"] | None = None
    """Images in .npz and .npy files: the axis of each that is its channels. Default: as their shape says."""
    positive_class: str | None = None
    """The positive one of two classes, of which precision, recall, AUROC and thresholds tell; it becomes the second.
    Default: the second as their names are ordered."""
    soft_label_column: list[str] = setting([])
    """CSV and Parquet files: the column with a grade of each row, which over the largest is how likely the positive
    class is; or, for several classes, a column for each, named as it is (a,b,c). It is what training aims at; metrics
    go by the label column, and where there is none (--target none) by a grade of 0.5."""
    soft_label_max: float | None = setting(None, check=Range(above=0))
    """The grade of --soft-label-column that is certain. Default: the largest, and 1 where none is above it."""
    fits_stretch: Literal["asinh", "zscale", "linear", "log"] | None = setting(None, is_for_images=True)
    """FITS images: the curve by which values between the limits become numbers from 0 to 1. Default: asinh."""
    fits_limits: list[float] = setting([], is_for_images=True)
    """FITS images: the two values that become 0 and 1 (0,100). Default: each band's 0.5 and 99.5 percentile in each
    image; of zscale IRAF's."""
    sampler: Literal["uniform", "balanced", "weighted"] = "uniform"
    """How an epoch draws as many training samples as there are: uniform (each once), balanced (every class equally
    often) or weighted (in proportion to the weights of `litscope reweight`); a sample may then come several times."""
    shuffle_window: str | None = setting(None, check=is_size, is_for_images=True)
    """Shards: bytes of stored images from which an epoch draws at a time, so that storage is read in large pieces, such
    as 4G. What fits as a whole is shuffled as a whole. Default: 1G."""
    batch_size: int | None = setting(None, check=COUNT)
    """Samples per step and device. Default: chosen from the data."""
    num_workers: int | None = setting(None, check=Range(least=0))
    """Threads that decode images. Default: one per core, 0 for data in memory."""
    pin_memory: bool | None = None
    """Page-locked batches for faster copies to a GPU. Default: on with a GPU."""
    image_size: int | None = setting(None, check=COUNT, is_for_images=True)
    """Side of the square image that the network sees, in pixels. Default: chosen from the data and the weights."""
    crop_pct: float | None = setting(None, check=PART, is_for_images=True)
    """Share of an image's shorter side that the network sees in evaluation, cropped in the middle. Default: that of the
    weights; from scratch 224/256 from 128 pixels on, else all."""
    interpolation: Interpolation | None = setting(None, is_for_images=True)
    """How images are resampled to their size. Default: that of the weights; from scratch bilinear."""
    augment: Literal["none", "default", "strong", "autoaugment"] = setting("default", "augmentation", takes=(bool,))
    """Random changes of training images: none, default (crop, flip), strong (also colour, rotation, erasing),
    autoaugment."""
    crop_padding: int | None = setting(None, check=Range(least=0), is_for_images=True)
    """Pixels by which images of at most 64 pixels are padded before their random crop. Default: an eighth of their
    side."""
    tta: Literal["none", "flip", "shift"] = setting("none", "test-time-augmentation", is_for_images=True)
    """How the test, `evaluate` and `predict` look at an image: none, flip (the mean of its logits and its mirror
    image's) or shift (also of both, moved slightly in two directions). Validation during training does without."""
    cache: bool | None = setting(None, is_for_images=True)
    """Decode images once into a memory-mapped cache. Default: when it fits in memory and on the disk."""
    cache_dir: str | None = setting(None, check=is_folder, takes=(os.PathLike,))
    """Folder of the caches. Default: $LITSCOPE_CACHE, else ~/.cache/litscope."""
    cache_size: str | None = setting(None, check=is_size, is_for_images=True)
    """Shards elsewhere: bytes of them that are kept on this machine's disk, such as 200G. Default: with --cache-dir a
    quarter of its disk, else none."""
    storage_timeout: float = setting(600.0, check=NOT_NEGATIVE, is_for_images=True)
    """Shards elsewhere: seconds for which a server that does not answer is asked again, before the run ends."""
    strict_data: bool = False
    """Stop at the first unreadable file, instead of setting it aside and reporting it."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """What becomes of samples that cannot be read: skip (each is told and left out; more than 1 % while it trains, or
    of shards, end the run) or stop (at the first, as --strict-data)."""
    actions: str | None = setting(None, takes=(os.PathLike,))
    """Decisions to start with (discards, labels, weights, tags): those of a run, or a file that
    `litscope export --to actions` wrote."""

    @property
    def origin(self) -> str | None:
        """What the samples come from, in one text: the data set, or shards as `train=...::val=...`."""
        if self.train_urls is None:
            return self.dataset
        named = (("train", self.train_urls), ("val", self.val_urls), ("test", self.test_urls))
        return BETWEEN.join(f"{split}={urls}" for split, urls in named if urls)

    def check(self) -> None:
        """Check each value, what names the data, the shares of the splits and the folds."""
        super().check()
        self._check_shards()
        self._check_folds()
        if self.soft_label_max is not None and len(self.soft_label_column) != 1:
            allowed = "it is for one column of grades. Give --soft-label-column."
            raise refuse("soft_label_max", self.soft_label_max, allowed)
        if self.crop_padding is not None and self.augment == "none":
            allowed = "--augment none crops nothing at random. Leave one out."
            raise refuse("crop_padding", self.crop_padding, allowed)
        if self.val_split + self.test_split >= 1:
            raise refuse(
                "val_split", self.val_split, f"with --test-split {self.test_split} nothing is left to train on."
            )

    def _check_shards(self) -> None:
        if self.train_urls is None:
            for name in ("val_urls", "test_urls"):
                if getattr(self, name) is not None:
                    raise refuse(name, getattr(self, name), "there are no --train-urls to go with it. Give them too.")
            if self.use_webdataset and self.dataset is None:
                raise ConfigError("--use-webdataset: say which shards, with --train-urls or --dataset.")
        elif self.dataset is not None:
            raise refuse("train_urls", self.train_urls, f"--dataset {self.dataset} names the data too. Give one.")
        elif not self.use_webdataset:
            raise refuse(
                "train_urls", self.train_urls, "it is for shards, and --no-use-webdataset says that there are none."
            )

    def _check_folds(self) -> None:
        count, fold = self.num_folds, self.fold
        if self.fold_tests and (count is None or fold is None):
            raise ConfigError(
                "--fold-tests: say which fold tests, by --num-folds and --fold. `litscope cv --nested` takes each in "
                "turn."
            )
        if count is None:
            if fold is not None:
                raise refuse("fold", fold, "it is one of --num-folds, which is not given. Give --num-folds 5.")
            return
        if self.val_split != DataConfig.val_split and not self.fold_tests:
            raise refuse("val_split", self.val_split, "with --num-folds a fold validates. Leave one out.")
        if fold is not None and fold >= count:
            raise refuse("fold", fold, f"with --num-folds {count} it is from 0 to {count - 1}.")
