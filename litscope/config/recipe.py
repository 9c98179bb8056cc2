"""The configuration of a run: one tree of dataclasses, a docstring under every field.

From this tree come the flags, the YAML keys, the table in the docs and the strict checks
(`config/flags.py` builds them). `None` means "choose from the data"; `training/choices.py`
fills it in and says so, and `recipe.yaml` in the run's folder holds what was chosen.

No torch here: `litscope fit --help` reads this file.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from litscope.errors import ConfigError

Precision = Literal[
    "auto", "16", "bf16", "32", "64", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "32-true", "64-true"
]


def _also(default: Any, *names: str) -> Any:
    """A field that has further names: `names` are flags without the dashes; with underscores they are YAML keys."""
    return field(default=default, metadata={"also": names})


@dataclass
class ModelConfig:
    """Which network is trained, and from which weights it starts."""

    arch: str | None = _also(None, "model", "model-type")
    """Architecture: any timm or torchvision classifier, `convnet` or `whitenet` (small images) or `mlp`. Default:
    chosen from the data."""
    num_classes: int | None = None
    """Number of classes; checked against the data. Default: what the data hold."""
    pretrained: bool | None = None
    """Start from pretrained weights. Default: where they help and can be had, else from scratch, said in one line."""
    weights: str | None = None
    """A local weights file to start from; the classifier head is left out where its shape differs."""
    dropout_rate: float = 0.0
    """Dropout before the classifier head, in [0, 1)."""
    in_channels: int | None = None
    """Number of image bands; checked against the data. Default: what the data hold."""
    num_members: int = 1
    """Train so many networks at once, each from weights of its own; what is recorded and predicted is their mean
    probability. For mlp."""
    member_lr: list[float] = field(default_factory=list)
    """A learning rate for each of --num-members, which then start from the same weights. Default: one for all."""
    member_weight_decay: list[float] = field(default_factory=list)
    """A weight decay for each of --num-members, which then start from the same weights; for adamw. Default: one for
    all."""
    compile: bool = _also(False, "compile-model")
    """Compile the network with torch.compile (needs a C++ compiler)."""


@dataclass
class DataConfig:
    """Which samples, how they are split, and how they reach the device."""

    dataset: str | None = None
    """A name (digits, iris, breast_cancer, mnist, fashion_mnist, cifar10, cifar100, svhn), a folder, a CSV,
    Parquet or .npz file."""
    data_dir: str = _also("data", "data-root")
    """Where named data sets lie, or are downloaded to."""
    download: bool = True
    """Download a named data set that is not under the data folder."""
    target: str | None = None
    """Tables: the column that holds the label. Default: `label`, `target` or `class`."""
    val_split: float = 0.1
    """Share of the training data used for validation when the data bring no validation split, in [0, 1)."""
    test_split: float = 0.0
    """Share of the data set aside as test set when the data bring none, in [0, 1)."""
    num_folds: int | None = None
    """Cross-validation: put the training and validation data into so many folds, instead of --val-split."""
    fold: int | None = None
    """The fold that validates, from 0. Default: with --num-members as many as folds, each member leaves one out."""
    split_seed: int | None = None
    """Seed of the splits alone. Default: the training seed."""
    group_column: str | None = None
    """Column whose rows of one value stay in one split. Default: `group` where it exists."""
    batch_size: int | None = None
    """Samples per step and device. Default: chosen from the data."""
    num_workers: int | None = None
    """Threads that decode images. Default: one per core, 0 for data in memory."""
    pin_memory: bool | None = None
    """Page-locked batches for faster copies to a GPU. Default: on with a GPU."""
    image_size: int | None = None
    """Side of the square image that the network sees, in pixels. Default: chosen from the data."""
    augment: Literal["none", "default", "strong", "autoaugment"] = _also("default", "augmentation")
    """Random changes of training images: none, default (crop, flip), strong (also colour, rotation, erasing),
    autoaugment."""
    crop_padding: int | None = None
    """Pixels by which images of at most 64 pixels are padded before their random crop. Default: an eighth of their
    side."""
    tta: Literal["none", "flip", "shift"] = _also("none", "test-time-augmentation")
    """How the test, `evaluate` and `predict` look at an image: none, flip (the mean of its logits and its mirror
    image's) or shift (also of both moved a little to two sides). Validation in each epoch does without."""
    cache: bool | None = None
    """Decode images once into a memory-mapped cache. Default: when it fits in memory and on the disk."""
    cache_dir: str | None = None
    """Where caches lie. Default: $LITSCOPE_CACHE, else ~/.cache/litscope."""
    strict_data: bool = False
    """Stop at the first unreadable file, instead of setting it aside and reporting it."""
    actions: str | None = None
    """Decisions to start with (discards, labels, weights, tags): those of a run, or a file that
    `litscope export --to actions` wrote."""


@dataclass
class TrainingConfig:
    """How long, how fast, against which loss, and what is kept."""

    epochs: int | None = _also(None, "max-epochs")
    """Passes over the training data. Default: chosen from the data."""
    max_steps: int | None = None
    """Stop after this many optimizer steps."""
    max_time: str | None = None
    """Stop after this time: DD:HH:MM:SS, HH:MM:SS or a number with a unit (90s, 30m, 2h)."""
    lr: float | None = _also(None, "learning-rate")
    """Learning rate at the schedule's peak. Default: chosen from the data."""
    optimizer: str = "adamw"
    """adamw, adam, sgd (Nesterov), rmsprop, or any optimizer name that timm knows."""
    weight_decay: float | None = None
    """Weight decay; never applied to norms and biases. Default: 0.05 for adamw, 5e-4 for sgd."""
    momentum: float = 0.9
    """Momentum of sgd and rmsprop; the first beta of the Adam family."""
    scheduler_type: Literal["cosine", "onecycle", "step", "plateau", "constant"] = _also("cosine", "scheduler")
    """How the learning rate changes: cosine to zero, one cycle, ten-fold steps, on plateaus of the monitor, or not
    at all."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up from near zero. Default: a twentieth of the run, at most five epochs."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes, in [0, 1)."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al. 2018); 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al. 2019); 0 is off. With both, each batch draws one of the two."""
    class_weights: str = "none"
    """Weights of the classes in the loss: none, balanced (inverse frequency), or a JSON or CSV file of class,weight."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """cross_entropy, or focal with gamma 2 (Lin et al. 2017)."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the weights, used for validation and kept in checkpoints; 0 is off."""
    gradient_clip_val: float | None = None
    """Clip the gradient's norm to this value."""
    accumulate_grad_batches: int = 1
    """Batches per optimizer step."""
    steps_per_call: int | Literal["auto"] = "auto"
    """Most optimizer steps in one call of Lightning's loop: auto, or a number; 1 is one step at a time."""
    early_stopping: bool = False
    """Stop when the monitor no longer improves."""
    patience: int | None = None
    """Epochs without improvement before early stopping. Alone it turns early stopping on. Default: 5."""
    min_delta: float = 0.0
    """Least change of the monitor that counts as an improvement."""
    monitor: str | None = None
    """Metric that decides the best checkpoint. Default: val/accuracy, val/loss with few validation samples, val/ap
    for a rare positive class, train/loss without validation."""
    mode: Literal["min", "max"] | None = None
    """Whether the monitor should fall or rise. Default: known from its name."""
    checkpoint_dir: str | None = None
    """Where checkpoints lie. Default: checkpoints/ in the run's folder."""
    save_top_k: int = 1
    """How many of the best checkpoints are kept; -1 keeps all, 0 none."""
    save_last: bool = True
    """Keep last.ckpt, from which an interrupted run resumes exactly."""
    resume: str | None = _also(None, "resume-from-checkpoint")
    """Continue a run: a checkpoint file, a run's folder, `last` or `best` (of --run-dir or --name, else of the
    newest run)."""
    prune: Literal["none", "infobatch", "random"] = "none"
    """Leave training samples out of an epoch: infobatch (those of low loss, at random; Qin et al. 2024), random (its
    control), none. The first epoch and the last eighth visit all."""
    prune_ratio: float | None = None
    """Share of the samples of low loss (for random: of all) that an epoch leaves out, more than 0 and less than 1.
    Default: 0.5."""
    canaries: float = 0.0
    """Share of training samples that get a wrong label for a while, to measure how well `litscope suspects`
    finds wrong labels, in [0, 0.5); 0 is off."""
    seed: int = 42
    """Seed of weights, order, augmentation and splits."""
    deterministic: bool = False
    """Deterministic algorithms only (bit-equal repeats on a GPU too)."""
    fast_dev_run: bool = False
    """One batch of training, validation and test, to see that everything holds."""
    limit_train_batches: int | float | None = None
    """Training batches used in each epoch: a whole number counts them (10), a decimal is a share (0.5; 1.0 is all)."""
    limit_val_batches: int | float | None = None
    """Likewise for validation batches."""
    limit_test_batches: int | float | None = None
    """Likewise for test batches."""
    overfit_batches: int | float | None = None
    """Train and validate on this number or share of training batches, the same in each epoch."""


@dataclass
class HardwareConfig:
    """Where the run computes."""

    accelerator: str = "auto"
    """auto, cpu, gpu (cuda), mps, tpu."""
    devices: str = "auto"
    """How many devices (2), which ones (0,3), or auto: every GPU, one CPU process."""
    num_nodes: int = 1
    """Number of machines; start the same command on each, with NODE_RANK, MASTER_ADDR and MASTER_PORT set."""
    strategy: str = "auto"
    """auto, ddp, ddp_find_unused_parameters_true: how several devices share the work."""
    precision: Precision = "auto"
    """auto (bf16-mixed on a GPU that has it, and on a CPU where it is clearly faster for the network; else 32), 32,
    bf16, 16, or Lightning's full names."""
    channels_last: bool | None = None
    """Keep images and weights in channels-last memory. Default: where the network takes it, and on a CPU where it
    is not clearly slower."""
    num_threads: int | None = None
    """Threads of torch in each process on a CPU. Default: one per core, or one alone where a small network is
    clearly faster so."""
    sync_batchnorm: bool = False
    """Batch-norm statistics over all devices (GPUs only)."""
    use_distributed_sampler: bool = True
    """Each device sees its own share of the data; off, every device sees all of it."""


@dataclass
class LoggingConfig:
    """What is recorded, and where."""

    name: str | None = None
    """Name of the run; its folder is runs/<name>. Default: data set, model and a number."""
    run_dir: str | None = None
    """The run's folder, exactly. Default: runs/<name>."""
    ledger: bool = True
    """Record loss, prediction, probability and margin of every sample at every visit."""
    logger: list[Literal["csv", "tensorboard", "wandb", "mlflow", "none"]] = field(default_factory=lambda: ["csv"])
    """Where metrics go besides the run's own files; may be given several times."""
    log_dir: str | None = None
    """Where loggers write. Default: logs/ in the run's folder."""
    log_every_n_steps: int = 50
    """Steps between two logged training losses."""
    use_wandb: bool = False
    """Short for --logger wandb."""
    wandb_project: str = "litscope"
    """Weights & Biases: project."""
    wandb_name: str | None = None
    """Weights & Biases: display name. Default: the run's name."""
    wandb_entity: str | None = None
    """Weights & Biases: user or team."""
    wandb_tags: list[str] = field(default_factory=list)
    """Weights & Biases: tags."""
    wandb_notes: str | None = None
    """Weights & Biases: notes."""
    wandb_mode: Literal["online", "offline", "disabled"] = "online"
    """Weights & Biases: online, offline (files only) or disabled."""
    wandb_log_model: bool = False
    """Weights & Biases: upload checkpoints."""
    wandb_watch: bool = False
    """Weights & Biases: record gradient histograms."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """Lightning's profiler; its report goes to the run's logs."""
    progress: bool = True
    """A progress bar on a terminal, one line an epoch elsewhere."""


@dataclass
class Recipe:
    """Everything that a run depends on."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def check(self) -> None:
        """Check each value's range and the combinations that cannot work.

        Raises:
            ConfigError: naming the flag, its value and what is allowed.
        """
        from litscope.config.checks import check

        check(self)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The tree as plain nested dictionaries (numbers, strings, lists), for YAML and JSON."""
        return dataclasses.asdict(self)


def max_time_s(text: str) -> float:
    """Seconds of a --max-time: `DD:HH:MM:SS`, `HH:MM:SS`, or a number with s, m, h or d.

    Raises:
        ConfigError: if it is neither, or zero.

    >>> max_time_s("00:01:30"), max_time_s("1.5h")
    (90.0, 5400.0)
    """
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):([0-5]?\d):([0-5]?\d)", text.strip())
    if number:
        seconds = float(number[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[number[2]]
    elif clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    else:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(
            f"--max-time {text}: it is HH:MM:SS, DD:HH:MM:SS, or a number with a unit (90s, 30m, 2h, 1d)."
        )
    return seconds
